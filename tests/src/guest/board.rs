//! Test guests for boards of other architectures: each greets on its serial port, echoes its input, and obeys letters.

use std::io;

use qemu_machine_core::Config;

use super::{GREETING, ImageFile};
use crate::installed;

/// A board of QEMU, with the guest that was written for it.
///
/// After [`GREETING`] the guest echoes each byte but two: `r` resets the machine, and `p` powers it off, except on
/// riscv64, where QEMU 7.2.22 ends at a power-off without an event ([`tiny`](super::tiny)).
#[derive(Debug)]
pub struct Board {
    /// The architecture, as in the name of the program.
    pub architecture: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// The option of QEMU that loads the image, and its value up to the path.
    loading: [&'static str; 2],
    code: Code,
    /// The memory, in MiB.
    pub memory_mib: u64,
    /// Whether the guest powers off when the power button is pressed.
    pub has_power_button: bool,
}

/// The machine code of a guest. The assembly is in the notation of GNU `as`. [`GREETING`], a carriage return, a line feed
/// and a zero follow the code.
#[derive(Clone, Copy, Debug)]
enum Code {
    /// Words with the low byte first.
    Little(&'static [u32]),
    /// Words with the high byte first, at 0x100, where QEMU starts the firmware of a pSeries.
    Ppc64(&'static [u32]),
    /// Instructions at 0x200, behind the low core.
    S390x(&'static [&'static [u8]]),
}

/// The boards.
pub static BOARDS: [Board; 4] = [
    Board {
        architecture: "aarch64",
        program: "qemu-system-aarch64",
        arguments: &["-machine", "virt", "-cpu", "cortex-a57"],
        loading: ["-device", "loader,force-raw=on,cpu-num=0,addr=0x41000000,file="],
        code: Code::Little(&AARCH64),
        memory_mib: 32,
        has_power_button: true,
    },
    Board {
        architecture: "riscv64",
        program: "qemu-system-riscv64",
        arguments: &["-machine", "virt", "-bios", "none"],
        loading: ["-device", "loader,force-raw=on,cpu-num=0,addr=0x80000000,file="],
        code: Code::Little(&RISCV64),
        memory_mib: 32,
        has_power_button: false,
    },
    Board {
        architecture: "s390x",
        program: "qemu-system-s390x",
        arguments: &["-machine", "s390-ccw-virtio"],
        loading: ["-kernel", ""],
        code: Code::S390x(&S390X),
        memory_mib: 32,
        has_power_button: true,
    },
    // TCG does not provide the mitigations of the default, and QEMU would warn of it.
    Board {
        architecture: "ppc64",
        program: "qemu-system-ppc64",
        arguments: &["-machine", "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off"],
        loading: ["-bios", ""],
        code: Code::Ppc64(&PPC64),
        // A multiple of the size of its memory blocks (QEMU, `hw/ppc/spapr.c`, `spapr_validate_node_memory`).
        memory_mib: 256,
        has_power_button: false,
    },
];

/// The guest of `virt` on aarch64, at EL1 (Arm, "PrimeCell UART (PL011)", "PrimeCell GPIO (PL061)" and "Power State
/// Coordination Interface"). QEMU raises line 3 of the PL061 for the power button (QEMU, `hw/arm/virt.c`,
/// `create_gpio_keys`).
const AARCH64: [u32; 29] = [
    0xd2a1_2001, //        mov x1, #0x9000000: the PL011
    0xd2a1_2063, //        mov x3, #0x9030000: the PL061
    0x5280_0104, //        mov w4, #8
    0xb904_0c64, //        str w4, [x3, #0x40c]: GPIOIEV, a rising edge of line 3
    0x1000_0325, //        adr x5, greeting
    0x3840_14a2, // print: ldrb w2, [x5], #1
    0x3400_0062, //        cbz w2, poll
    0x9400_0012, //        bl put
    0x17ff_fffd, //        b print
    0xb944_1464, // poll:  ldr w4, [x3, #0x414]: GPIORIS
    0x3718_0184, //        tbnz w4, #3, off
    0xb940_1824, //        ldr w4, [x1, #0x18]: UARTFR
    0x3727_ffa4, //        tbnz w4, #4, poll: nothing is received
    0x3940_0022, //        ldrb w2, [x1]
    0x7101_c05f, //        cmp w2, #'p'
    0x5400_00e0, //        b.eq off
    0x7101_c85f, //        cmp w2, #'r'
    0x5400_0060, //        b.eq reset
    0x9400_0007, //        bl put
    0x17ff_fff6, //        b poll
    0x5280_0120, // reset: mov w0, #9: SYSTEM_RESET
    0x1400_0002, //        b call
    0x5280_0100, // off:   mov w0, #8: SYSTEM_OFF
    0x72b0_8000, // call:  movk w0, #0x8400, lsl #16
    0xd400_0002, //        hvc #0
    0xb940_1824, // put:   ldr w4, [x1, #0x18]: UARTFR
    0x372f_ffe4, //        tbnz w4, #5, put: the transmitter is full
    0xb900_0022, //        str w2, [x1]
    0xd65f_03c0, //        ret
];

/// The guest of `virt` on riscv64, in machine mode. Its serial port is a 16550, and its test device resets the machine
/// (QEMU, `hw/misc/sifive_test.c`).
const RISCV64: [u32; 26] = [
    0x1000_0537, //        lui a0, 0x10000: the 16550
    0x0000_0597, //        auipc a1, 0
    0x0645_8593, //        addi a1, a1, 100: greeting
    0x0005_c603, // print: lbu a2, 0(a1)
    0x0015_8593, //        addi a1, a1, 1
    0x0006_0663, //        beqz a2, poll
    0x03c0_00ef, //        jal put
    0xff1f_f06f, //        j print
    0x0055_4683, // poll:  lbu a3, 5(a0): the line status register
    0x0016_f693, //        andi a3, a3, 1
    0xfe06_8ce3, //        beqz a3, poll: nothing is received
    0x0005_4603, //        lbu a2, 0(a0)
    0x0720_0693, //        li a3, 'r'
    0x00d6_0663, //        beq a2, a3, reset
    0x01c0_00ef, //        jal put
    0xfe5f_f06f, //        j poll
    0x0000_75b7, // reset: lui a1, 0x7
    0x7775_859b, //        addiw a1, a1, 0x777: FINISHER_RESET
    0x0010_0537, //        lui a0, 0x100: the test device
    0x00b5_2023, //        sw a1, 0(a0)
    0x0000_006f, //        j .
    0x0055_4683, // put:   lbu a3, 5(a0)
    0x0206_f693, //        andi a3, a3, 0x20
    0xfe06_8ce3, //        beqz a3, put: the transmitter is full
    0x00c5_0023, //        sb a2, 0(a0)
    0x0000_8067, //        ret
];

/// The guest of `pseries`, which calls the hypervisor and RTAS, both of which QEMU is (QEMU, `hw/char/spapr_vty.c` and
/// `hw/ppc/spapr_rtas.c`). It obeys a letter only at the beginning of its input.
const PPC64: [u32; 45] = [
    0x39c0_01b4, //        li r14, greeting
    0x88ce_0000, // print: lbz r6, 0(r14)
    0x39ce_0001, //        addi r14, r14, 1
    0x2c06_0000, //        cmpwi r6, 0
    0x4182_0014, //        beq poll
    0x78c6_c1c6, //        sldi r6, r6, 56
    0x38a0_0001, //        li r5, 1
    0x4800_0045, //        bl put
    0x4bff_ffe4, //        b print
    0x3860_0054, // poll:  li r3, 0x54: H_GET_TERM_CHAR
    0x3880_0000, //        li r4, 0: the only terminal
    0x4400_0022, //        sc 1
    0x2c04_0000, //        cmpwi r4, 0: the number of bytes, which are in r5 and r6
    0x4182_fff0, //        beq poll
    0x78a8_4620, //        srdi r8, r5, 56
    0x2c08_0070, //        cmpwi r8, 'p'
    0x4182_0038, //        beq off
    0x2c08_0072, //        cmpwi r8, 'r'
    0x4182_0028, //        beq reset
    0x7cc7_3378, //        mr r7, r6
    0x7ca6_2b78, //        mr r6, r5
    0x7c85_2378, //        mr r5, r4
    0x4800_0009, //        bl put
    0x4bff_ffc8, //        b poll
    0x3860_0058, // put:   li r3, 0x58: H_PUT_TERM_CHAR
    0x3880_0000, //        li r4, 0
    0x4400_0022, //        sc 1
    0x4e80_0020, //        blr
    0x3880_01a4, // reset: li r4, system_reboot
    0x4800_0008, //        b call
    0x3880_018c, // off:   li r4, power_off
    0x3860_0000, // call:  li r3, 0
    0x6063_f000, //        ori r3, r3, 0xf000: KVMPPC_H_RTAS (QEMU, `include/hw/ppc/spapr.h`)
    0x4400_0022, //        sc 1
    0x4800_0000, //        b .
    0x0000_2003,
    2,
    1,
    0,
    0,
    0, // power_off:       .long 0x2003, 2, 1, 0, 0, 0: the token, arguments, results
    0x0000_2004,
    0,
    1,
    0, // system_reboot:   .long 0x2004, 0, 1, 0
];

/// The guest of `s390-ccw-virtio`, which calls the service processor (QEMU, `hw/s390x/event-facility.c` and
/// `hw/char/sclpconsole.c`). The control block of reads is at 0x2000, and that of other calls at 0x3000. Between two
/// inputs the processor is halted.
const S390X: [&[u8]; 46] = [
    &[0xeb, 0x00, 0x02, 0xa8, 0x00, 0x2f], //        lctlg %c0, %c0, control
    &[0xa7, 0x29, 0x30, 0x00],             //                    lghi %r2, 0x3000
    &[0xd2, 0x1b, 0x20, 0x00, 0x02, 0xd0], //        mvc 0(28, %r2), mask
    &[0xc0, 0x3f, 0x00, 0x78, 0x00, 0x05], //        llilf %r3, 0x780005: write the mask of events
    &[0xb2, 0x20, 0x00, 0x32],             //                    servc %r3, %r2
    &[0xc0, 0x70, 0x00, 0x00, 0x00, 0x74], //        larl %r7, greeting
    &[0xa7, 0xe5, 0x00, 0x2c],             //             print: bras %r14, put
    &[0x95, 0x00, 0x70, 0x00],             //                    cli 0(%r7), 0
    &[0xa7, 0x74, 0xff, 0xfc],             //                    jne print
    &[0xa7, 0x29, 0x20, 0x00],             //             poll:  lghi %r2, 0x2000
    &[0xd2, 0x07, 0x20, 0x00, 0x02, 0xec], //        mvc 0(8, %r2), read
    &[0xc0, 0x3f, 0x00, 0x77, 0x00, 0x05], //        llilf %r3, 0x770005: read events
    &[0xb2, 0x20, 0x00, 0x32],             //                    servc %r3, %r2
    &[0x95, 0x00, 0x20, 0x06],             //                    cli 6(%r2), 0: the class of the response
    &[0xa7, 0x74, 0x00, 0x2e],             //                    jne idle
    &[0x95, 0x1d, 0x20, 0x0a],             //                    cli 10(%r2), 0x1d: the power button
    &[0xa7, 0x84, 0x00, 0x2c],             //                    je off
    &[0x48, 0x60, 0x20, 0x08],             //                    lh %r6, 8(%r2): the length of the event
    &[0xa7, 0x6a, 0xff, 0xf9],             //                    ahi %r6, -7
    &[0xa7, 0x79, 0x20, 0x0f],             //                    lghi %r7, 0x200f: its text
    &[0x95, 0x70, 0x70, 0x00],             //             next:  cli 0(%r7), 'p'
    &[0xa7, 0x84, 0x00, 0x22],             //                    je off
    &[0x95, 0x72, 0x70, 0x00],             //                    cli 0(%r7), 'r'
    &[0xa7, 0x84, 0x00, 0x18],             //                    je reset
    &[0xa7, 0xe5, 0x00, 0x06],             //                    bras %r14, put
    &[0xa7, 0x66, 0xff, 0xf6],             //                    brct %r6, next
    &[0xa7, 0xf4, 0xff, 0xdc],             //                    j poll
    &[0xa7, 0x29, 0x30, 0x00],             //             put:   lghi %r2, 0x3000
    &[0xd2, 0x0d, 0x20, 0x00, 0x02, 0xf4], //        mvc 0(14, %r2), write
    &[0xd2, 0x00, 0x20, 0x0e, 0x70, 0x00], //        mvc 14(1, %r2), 0(%r7)
    &[0xc0, 0x3f, 0x00, 0x76, 0x00, 0x05], //        llilf %r3, 0x760005: write events
    &[0xb2, 0x20, 0x00, 0x32],             //                    servc %r3, %r2
    &[0x41, 0x70, 0x70, 0x01],             //                    la %r7, 1(%r7)
    &[0x07, 0xfe],                         //                                br %r14
    &[0xa7, 0x29, 0x00, 0x03],             //             reset: lghi %r2, 3: load again
    &[0x83, 0x02, 0x03, 0x08],             //                    diag %r0, %r2, 0x308
    &[0xb2, 0xb2, 0x02, 0xb0],             //             idle:  lpswe waiting
    &[0xb2, 0xb2, 0x02, 0xc0],             //             off:   lpswe stopped
    &[0, 0, 0, 0, 0, 0, 2, 0],             //             control: .quad 0x200: interrupts of the service processor
    &[0x01, 0x02, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], // waiting: .quad 0x0102000180000000, 0
    // A processor that is disabled at this address powers off (QEMU, `target/s390x/helper.c`, `is_special_wait_psw`).
    &[0x00, 0x02, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0xff], // stopped: .quad 0x0002000180000000, 0xfff
    &[0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4], // mask:  .short 28, 0, 0, 0, 0, 4: lengths of the block and of a mask
    &[0, 0, 0, 0x48, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0], // .long 0x48, 0x40, 0, 0: text and the power button, text
    &[0x10, 0, 0, 0, 0, 0, 0, 0],           //           read:  .short 0x1000, 0, 0, 0: the length of the block
    &[0, 15, 0, 0, 0, 0, 0, 0, 0, 7],       //       write: .short 15, 0, 0, 0, 7: lengths of the block and of the event
    &[0x1a, 0, 0, 0],                       //                              .byte 0x1a, 0, 0, 0: text
];

impl Board {
    /// Returns the board of an architecture.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn of(architecture: &str) -> &'static Self {
        BOARDS.iter().find(|board| board.architecture == architecture).expect("there is a board")
    }

    /// Writes the image of the guest to a temporary file.
    ///
    /// # Errors
    ///
    /// As [`ImageFile::create`].
    pub fn image(&self) -> io::Result<ImageFile> {
        let mut image = match self.code {
            Code::Little(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            Code::Ppc64(words) => {
                let mut image = vec![0; 0x100];
                image.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                image
            }
            Code::S390x(instructions) => [&low_core()[..], &instructions.concat()].concat(),
        };
        image.extend(GREETING.bytes().chain(*b"\r\n\0"));
        ImageFile::containing(&image)
    }

    /// Returns the configuration of a machine with this guest, without its [memory](Self::memory_mib). It has no serial
    /// port.
    ///
    /// # Panics
    ///
    /// If QEMU for this architecture is not on the `PATH`.
    #[must_use]
    pub fn config(&self, image: &ImageFile) -> Config {
        let [option, value] = self.loading;
        Config::new(installed(self.program))
            .args(["-accel", "tcg", "-nodefaults"])
            .args(self.arguments.iter().copied())
            .args([option, &format!("{value}{}", image.path())])
    }
}

/// Returns the low core of the guest on s390x: the address of its code for QEMU (QEMU, `hw/s390x/ipl.c`,
/// `s390_ipl_realize`), and `poll` as the address after an external interrupt (IBM, "z/Architecture Principles of
/// Operation", "Assigned Storage Locations").
fn low_core() -> [u8; 0x200] {
    let mut core = [0; 0x200];
    core[..8].copy_from_slice(&0x0008_0000_8000_0200_u64.to_be_bytes());
    core[0x1b0..0x1c0].copy_from_slice(&0x0000_0001_8000_0000_0000_0000_0000_022c_u128.to_be_bytes());
    core
}
