//! Text of `--help`.

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Runs a command in a Linux guest under a kernel, prints the console meanwhile, and exits with the command's exit code.

    kernel-test [OPTIONS] -k KERNEL -- COMMAND [ARGUMENT...]

    kernel-test -k arch/x86/boot/bzImage -- sh -c 'uname -r; exit 7'
    kernel-test -k old=bzImage.1 -k new=bzImage.2 --jobs 2 --junit results.xml --share . -- $PWD/run-tests

The kernel is an x86_64 image (bzImage) with a serial port and initramfs built in. The guest has nothing but busybox and
the command, unless --initrd, --share or --disk is given.

The run:
    -k, --kernel [NAME=]FILE   the kernel; several make a matrix, with a table at the end
                               [default: that of --unpacked, or the one of this host]
    -a, --append PARAMETER     another parameter of the kernel; may be repeated
    -m, --memory SIZE          the memory of the guest [default: 256M]
    -c, --cpus N               the processors of the guest [default: 1]
    -t, --timeout SECS         the time that the boot and the command may take together [default: 60]
    -j, --jobs N               the number of kernels that run at once [default: 1]
        --accel WHICH          auto, kvm or tcg; auto is KVM if it works, or else TCG
        --agent                the guest agent (qemu-ga) runs the command: its stdout and stderr are separate, and
                               printed at the end
        --qemu PROGRAM         the program of QEMU [default: qemu-system-x86_64]
        --qemu-arg ARGUMENT    another argument for QEMU; may be repeated: --qemu-arg=-device --qemu-arg=edu

Files:
        --initrd FILE          run the command in this initramfs; the files of kernel-test are added in /.kernel-test
        --share DIR[:GUEST][:ro]
                               mount a directory of this host, at the same path or at GUEST, an absolute path
        --share-by WHICH       auto, virtiofs or 9p; auto is virtiofs where the kernel and this host have it, or else 9p
        --virtiofsd PROGRAM    the file server for virtiofs [default: the one of this host]
        --disk IMAGE[:rw]      a disk (/dev/vda, ...). Changes by the guest are dropped, except with `:rw`. Write a
                               name that ends in `:rw` with a backslash: `\\:rw`
        --copy-out GUEST:HOST  copy a file out of the guest after the command; a directory becomes a tar archive.
                               In GUEST, write `\\:` for a colon and `\\\\` for a backslash
        --module NAME          load this module and those that it depends on; may be repeated
        --modules DIR          the directory of the modules [default: /lib/modules/RELEASE]
        --busybox FILE         a statically linked busybox [default: the one of this host]
        --unpacked DIR         a directory in which packages are unpacked: kernel, modules, busybox and agent are taken
                               from there first [default: $KERNEL_TEST_UNPACKED]
        --save-initramfs FILE  write the initramfs to this file, and boot with that

Results:
    -q, --quiet                print only the output of the command, and errors of the kernel
        --junit FILE           write the results as JUnit XML
        --report FILE          write a page of HTML for a browser: the outcome of each kernel, its console with colours,
                               the events and commands of QMP. `password`, `proxy-password` and `data` in --qemu-arg are
                               masked. The record is bounded by 64 MiB for each kernel: of a run with much output
                               (100 KB to 2 MB), the page has the beginning and the end
        --tap                  write the results as TAP to stdout, and the console to stderr
        --dump FILE            write the memory of the guest to this file if the kernel panics, for crash(8)
        --gdb[=PORT]           wait for gdb on this port of localhost [default: 1234] before the first instruction
        --dry-run              print the command line of QEMU for a shell, which boots the file of --save-initramfs;
                               run nothing
    -h, --help                 print this help
    -V, --version              print the version

With several kernels, --junit and --report write one file for all. The files of --copy-out, --dump and --save-initramfs
get the name of the kernel as an extension, so the names must differ.
On a terminal, the guest can only set colours: its other control characters are printed as escapes.

If the guest prints KTAP or TAP, its tests are in the results, and a test that failed makes the exit code 1 where the
command exited with 0. Exit code: that of the command, which is 126 or 127 if the command cannot be run, or that of the
first kernel that does not succeed. If there is none, a message is on stderr, and the exit code is
    120  the kernel hangs: it did not start the command in time, or reported a stall
    121  the kernel panicked
    122  the machine ended before the command did: a power-off, a reset, or QEMU died or stopped the guest
    123  QEMU did not start
    124  the command took too long
    125  the command line is not valid, or this host or the guest has a problem
A command can exit with these codes, and print such a message. The file of --junit has an element <error> only if there
is no exit code of the command: text of the guest is escaped there.";
