//! Tiny test guests: a few instructions each, by which a guest ends its machine as soon as it starts.

use std::io;

use qemu_machine_core::{Cause, Config};

use super::{ImageFile, image_of};
use crate::installed;

/// A guest, and the end that QEMU must report.
#[derive(Debug)]
pub struct Tiny {
    /// Program of the guest, and its processor.
    pub name: &'static str,
    code: Code,
    options: &'static [&'static str],
    /// The causes of the end, one for each behaviour of QEMU.
    pub causes: &'static [Cause],
    /// The exit code of QEMU.
    pub exit_code: i32,
}

/// The machine code of a guest, for one board. The assembly is in the notation of GNU `as`.
#[derive(Clone, Copy, Debug)]
enum Code {
    /// 16-bit code for the board `pc`. It is in a BIOS image, at offset 0 of CS.
    X86(&'static [u8]),
    /// Code for the board `virt` with a Cortex-A57. It is in RAM, and starts at EL1.
    Aarch64(&'static [u32]),
    /// Code for the board `virt` without firmware. It is at the start of RAM.
    Riscv64(&'static [u32]),
}

/// The guests.
pub static GUESTS: [Tiny; 7] = [
    Tiny {
        name: "debug exit on x86_64",
        code: Code::X86(&[
            0xb0, 0x15, // mov $0x15, %al: QEMU exits with twice that plus one
            0xe6, 0xf4, // out %al, $0xf4
            0xf4, //       hlt
        ]),
        options: &["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"],
        causes: &[Cause::DebugExit(0x15)],
        exit_code: 43,
    },
    // The interrupt has no vector, and neither have the faults that follow from that. The third resets the processor.
    Tiny {
        name: "triple fault on x86_64",
        code: Code::X86(&[
            0x2e, 0x0f, 0x01, 0x1e, 0x08, 0x00, // lidt %cs:8
            0xcc, //                               int3
            0xf4, //                               hlt
            0x00, 0x00, //                         .word 0, the limit of the table of vectors
            0x00, 0x00, 0x00, 0x00, //             .long 0, its base
        ]),
        options: &["-no-reboot"],
        causes: &[Cause::Reset],
        exit_code: 0,
    },
    // No firmware has given the registers of the power management an address, so the guest does.
    Tiny {
        name: "ACPI power-off on x86_64",
        code: Code::X86(&[
            0x66, 0xb8, 0x40, 0x0b, 0x00, 0x80, // mov $0x80000b40, %eax: PMBA of the PIIX4
            0xba, 0xf8, 0x0c, //                   mov $0xcf8, %dx: PCI address
            0x66, 0xef, //                         out %eax, %dx
            0xb8, 0x01, 0x06, //                   mov $0x601, %ax: port 0x600
            0xba, 0xfc, 0x0c, //                   mov $0xcfc, %dx: PCI data
            0xef, //                               out %ax, %dx
            0x66, 0xb8, 0x80, 0x0b, 0x00, 0x80, // mov $0x80000b80, %eax: PMREGMISC
            0xba, 0xf8, 0x0c, //                   mov $0xcf8, %dx
            0x66, 0xef, //                         out %eax, %dx
            0xb0, 0x01, //                         mov $1, %al: enable the port
            0xba, 0xfc, 0x0c, //                   mov $0xcfc, %dx
            0xee, //                               out %al, %dx
            0xb8, 0x00, 0x20, //                   mov $0x2000, %ax: SLP_EN, soft off
            0xba, 0x04, 0x06, //                   mov $0x604, %dx: PM1a_CNT
            0xef, //                               out %ax, %dx
            0xf4, //                               hlt
        ]),
        options: &[],
        causes: &[Cause::PowerOff],
        exit_code: 0,
    },
    // An exit by a call to the debugger (Arm, "Semihosting for AArch32 and AArch64").
    Tiny {
        name: "semihosting exit on aarch64",
        code: Code::Aarch64(&[
            0x5280_0300, //    mov w0, #0x18: SYS_EXIT
            0x1000_0061, //    adr x1, parameters
            0xd45e_0000, //    hlt #0xf000
            0x1400_0000, //    b .
            0x0002_0026,
            0, // parameters: .quad 0x20026, ADP_Stopped_ApplicationExit
            7,
            0, //           .quad 7, the exit status
        ]),
        options: &["-semihosting"],
        causes: &[Cause::Exit(7)],
        exit_code: 7,
    },
    // A call to the firmware, which QEMU itself is (Arm, "Power State Coordination Interface").
    Tiny {
        name: "PSCI power-off on aarch64",
        code: Code::Aarch64(&[
            0x52b0_8000, // mov w0, #0x84000000
            0x7280_0100, // movk w0, #8: SYSTEM_OFF
            0xd400_0002, // hvc #0
            0x1400_0000, // b .
        ]),
        options: &[],
        causes: &[Cause::PowerOff],
        exit_code: 0,
    },
    // QEMU 7.2.22 exits without an event (QEMU, `hw/misc/sifive_test.c`, `sifive_test_write`), and QEMU 10.0.13 sends
    // SHUTDOWN first (measured).
    Tiny {
        name: "power-off by the test device on riscv64",
        code: Code::Riscv64(&[
            0x0010_0537, // lui a0, 0x100: the device
            0x0000_55b7, // lui a1, 0x5
            0x5555_8593, // addi a1, a1, 0x555: FINISHER_PASS
            0x00b5_2023, // sw a1, 0(a0)
            0x0000_006f, // j .
        ]),
        options: &[],
        causes: &[Cause::PowerOff, Cause::Exit(0)],
        exit_code: 0,
    },
    Tiny {
        name: "reset by the test device on riscv64",
        code: Code::Riscv64(&[
            0x0010_0537, // lui a0, 0x100: the device
            0x0000_75b7, // lui a1, 0x7
            0x7775_8593, // addi a1, a1, 0x777: FINISHER_RESET
            0x00b5_2023, // sw a1, 0(a0)
            0x0000_006f, // j .
        ]),
        options: &["-no-reboot"],
        causes: &[Cause::Reset],
        exit_code: 0,
    },
];

impl Tiny {
    /// Writes the image of the guest to a temporary file.
    ///
    /// # Errors
    ///
    /// As [`ImageFile::create`].
    pub fn image(&self) -> io::Result<ImageFile> {
        let image = match self.code {
            Code::X86(bytes) => image_of(bytes),
            Code::Aarch64(words) | Code::Riscv64(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        };
        ImageFile::containing(&image)
    }

    /// Returns the configuration of a machine with this guest.
    ///
    /// # Panics
    ///
    /// If QEMU is not on the `PATH`.
    #[must_use]
    pub fn config(&self, image: &ImageFile) -> Config {
        let loaded = |address| format!("loader,file={},force-raw=on,cpu-num=0,addr={address}", image.path());
        let (program, board) = match self.code {
            Code::X86(_) => ("qemu-system-x86_64", ["pc", "-m", "1M", "-bios", image.path()].map(String::from)),
            Code::Aarch64(_) => (
                "qemu-system-aarch64",
                ["virt", "-cpu", "cortex-a57", "-device", &loaded("0x41000000")].map(String::from),
            ),
            Code::Riscv64(_) => {
                ("qemu-system-riscv64", ["virt", "-bios", "none", "-device", &loaded("0x80000000")].map(String::from))
            }
        };
        Config::new(installed(program))
            .args(["-accel", "tcg", "-nodefaults", "-machine"])
            .args(board)
            .args(self.options.iter().copied())
    }
}
