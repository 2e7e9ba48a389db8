# BIOS test guest: greets, echoes, and does one thing per letter.
#
# GNU as, AT&T syntax, 16-bit real mode. This is the last KiB of a 64 KiB image,
# which the machine maps at physical 0xF0000-0xFFFFF. The segment below makes
# offset 0 of this file offset 0 of CS, so that no linker is needed: every
# address is written as its distance from `start`.

        .code16
        .text

        .set    SEGMENT, 0xFFC0         # physical 0xFFC00 = last KiB below 1 MiB

        .set    SERIAL_DATA, 0x3F8      # divisor low while the latch is open
        .set    SERIAL_ENABLE, 0x3F9    # interrupt enable; divisor high likewise
        .set    SERIAL_LINE, 0x3FB
        .set    SERIAL_MODEM, 0x3FC
        .set    SERIAL_STATUS, 0x3FD

        .set    RECEIVED, 0x01          # both in SERIAL_ENABLE and SERIAL_STATUS
        .set    ENABLE_SENDABLE, 0x02
        .set    STATUS_SENDABLE, 0x20   # the holding register is empty
        .set    STATUS_SENT, 0x40       # and so is the shift register
        .set    STATUS_ABSENT, 0x80     # never set by a port without FIFO

        .set    PIC_COMMAND, 0x20
        .set    PIC_DATA, 0x21
        .set    PIC_VECTOR, 0x20        # above the processor's exceptions

        .set    APIC, 0xFEE00000
        .set    APIC_SPURIOUS, 0xF0
        .set    APIC_LINE_0, 0x350
        .set    PCI_ADDRESS, 0xCF8
        .set    PCI_DATA, 0xCFC
        .set    RESET_CONTROL, 0xCF9
        .set    POWER_FUNCTION, 0x80000B00      # bus 0, device 1, function 3
        .set    POWER_BASE, 0x600       # the port that we give to the ACPI registers
        .set    PVPANIC, 0x505          # (QEMU, `docs/specs/pvpanic.rst`)
        .set    DEBUG_EXIT, 0xF4
        .set    DEBUG_EXIT_VALUE, 21    # QEMU exits with twice that plus one

        .set    FLOOD_LINES, 16384

        .macro  say text
        mov     $(\text - start), %si
        call    print
        .endm

        .macro  write port, value
        mov     $\value, %al
        mov     $\port, %dx
        out     %al, %dx
        .endm

# Interrupts are disabled everywhere except at the one `hlt` in `wait`, and the
# handler does nothing: an interrupt only ends a wait, after which the status
# is read again. So the handler and the main program share no state.
start:
        cli
        cld
        xor     %ax, %ax
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7000, %sp
        push    %cs
        pop     %ds

        # Set all eight vectors: for a withdrawn interrupt, the PIC raises its
        # last one (a spurious interrupt), even if it is masked.
        mov     $(PIC_VECTOR * 4), %di
        mov     $8, %cx
vectors:
        mov     $(woken - start), %ax
        stosw
        mov     %cs, %ax
        stosw
        loop    vectors

        # After reset the local APIC masks the interrupts of the PIC (QEMU,
        # `hw/intc/apic.c`, `apic_accept_pic_intr`). Real mode cannot address
        # its registers, and disabling the APIC by its model-specific register
        # does not work under TCG. So DS becomes a flat segment meanwhile. CS
        # keeps its real-mode segment throughout.
        lgdtl   (table_pointer - start)
        mov     %cr0, %eax
        or      $0x01, %al
        mov     %eax, %cr0
        mov     $8, %cx
        mov     %cx, %ds
        mov     $APIC, %esi
        movl    $0x1FF, APIC_SPURIOUS(%esi)     # enable; else all lines are masked
        movl    $0x700, APIC_LINE_0(%esi)       # the PIC: ExtINT, not masked
        and     $0xFE, %al
        mov     %eax, %cr0
        push    %cs
        pop     %ds

        mov     $0x11, %al              # edge triggered, cascaded, four words
        out     %al, $PIC_COMMAND
        mov     $PIC_VECTOR, %al
        out     %al, $PIC_DATA
        mov     $0x04, %al              # the second PIC is on line 2
        out     %al, $PIC_DATA
        mov     $0x03, %al              # 8086, ends interrupts by itself
        out     %al, $PIC_DATA
        mov     $0xEF, %al              # only line 4, the serial port
        out     %al, $PIC_DATA

        # The FIFO stays off: switching it would discard a byte that the host
        # sent before the guest ran.
        write   SERIAL_ENABLE, 0
        write   SERIAL_LINE, 0x80       # open the divisor latch
        write   SERIAL_DATA, 1          # 115200 baud
        write   SERIAL_ENABLE, 0
        write   SERIAL_LINE, 0x03       # eight bits, no parity, one stop bit
        write   SERIAL_MODEM, 0x0B      # ready, and the interrupt line driven

        say     text_ready

next:
        mov     $SERIAL_STATUS, %dx
        in      %dx, %al
        # Without a serial port all bits read as one. Then idle, do not echo.
        and     $(RECEIVED | STATUS_ABSENT), %al
        cmp     $RECEIVED, %al
        je      take
        mov     $RECEIVED, %al
        call    wait
        jmp     next

take:
        mov     $SERIAL_DATA, %dx
        in      %dx, %al
        cmp     $'p', %al
        je      power_off
        cmp     $'r', %al
        je      reset
        cmp     $'c', %al
        je      panic
        cmp     $'x', %al
        je      exit
        cmp     $'f', %al
        je      flood
        cmp     $'h', %al
        je      hang
        call    send
        jmp     next

# No firmware has set up the PIIX4's power management, so its registers have no
# address yet.
power_off:
        say     text_power_off
        call    drain
        mov     $(POWER_FUNCTION | 0x40), %eax  # PMBA
        mov     $PCI_ADDRESS, %dx
        out     %eax, %dx
        mov     $(POWER_BASE | 1), %eax         # bit 0: an I/O address
        mov     $PCI_DATA, %dx
        out     %eax, %dx
        mov     $(POWER_FUNCTION | 0x80), %eax  # PMREGMISC
        mov     $PCI_ADDRESS, %dx
        out     %eax, %dx
        write   PCI_DATA, 1                     # enable that address
        mov     $0x2000, %ax                    # SLP_EN, type 0: soft off
        mov     $(POWER_BASE + 4), %dx          # PM1a_CNT
        out     %ax, %dx
        jmp     stop

reset:
        say     text_reset
        call    drain
        write   RESET_CONTROL, 0x02             # a hard reset, when bit 2 rises
        write   RESET_CONTROL, 0x06
        # The reset takes effect a little later. Until then, do nothing, so that
        # no byte for the next run is read.
        jmp     stop

panic:
        say     text_panic
        call    drain
        write   PVPANIC, 1
        jmp     next

exit:
        say     text_exit
        call    drain
        write   DEBUG_EXIT, DEBUG_EXIT_VALUE
        jmp     next

hang:
        say     text_hang
stop:
        cli
        hlt
        jmp     stop                            # an NMI ends this halt too

flood:
        xor     %ebx, %ebx
flood_line:
        mov     $8, %cx
flood_digit:
        rol     $4, %ebx                        # eight times: as it was
        mov     %bl, %al
        and     $0x0F, %al
        add     $'0', %al
        cmp     $'9', %al
        jbe     flood_send
        add     $('a' - '0' - 10), %al
flood_send:
        call    send
        loop    flood_digit
        say     text_filler
        inc     %ebx
        cmp     $FLOOD_LINES, %ebx
        jb      flood_line
        say     text_flooded
        jmp     next

# Sends the text at SI up to its zero. Changes AX, DX, SI.
print:
        lodsb
        test    %al, %al
        jz      done
        call    send
        jmp     print

# Sends the byte in AL. Changes AX, DX. QEMU accepts a byte at once unless the
# host does not read. Then the port stays full, and a byte that is written to it
# would be lost.
send:
        mov     %al, %ah
full:
        mov     $SERIAL_STATUS, %dx
        in      %dx, %al
        test    $STATUS_SENDABLE, %al
        jnz     empty
        mov     $ENABLE_SENDABLE, %al
        call    wait
        jmp     full
empty:
        mov     %ah, %al
        mov     $SERIAL_DATA, %dx
        out     %al, %dx
done:
        ret

# Waits until the last byte has left the port, since the next step may end the
# machine. No interrupt reports this, so the loop spins, but only while the host
# does not read.
drain:
        mov     $SERIAL_STATUS, %dx
        in      %dx, %al
        pause
        test    $STATUS_SENT, %al
        jz      drain
        ret

# Halts until the port raises the interrupt in AL. Changes AL, DX. The PIC sees
# only rising edges, so no cause is enabled before, and exactly one now: if its
# condition holds already, enabling it is the edge, and the other cause cannot
# keep the line high. `sti` enables interrupts after the next instruction, the
# `hlt`.
wait:
        mov     $SERIAL_ENABLE, %dx
        out     %al, %dx
        sti
        hlt
        cli
        xor     %al, %al
        out     %al, %dx
        ret

woken:
        iret

# Two segments: the null segment, and all 4 GiB as data. The latter has its
# accessed bit set, since the processor cannot set it in a ROM.
table:
        .quad   0
        .quad   0x00CF93000000FFFF
table_pointer:
        .word   15
        .long   SEGMENT * 16 + table - start

text_ready:
        .asciz  "guest: ready\r\n"
text_power_off:
        .asciz  "guest: powering off\r\n"
text_reset:
        .asciz  "guest: resetting\r\n"
text_panic:
        .asciz  "guest: panicking\r\n"
text_exit:
        .asciz  "guest: exiting\r\n"
text_hang:
        .asciz  "guest: hanging\r\n"
text_flooded:
        .asciz  "guest: flooded\r\n"
text_filler:
        .asciz  " abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n"

# The reset vector. The far jump also moves CS from the top of the 4 GiB space,
# where its base is special, to the copy below 1 MiB.
        .org    0x3F0, 0xF4
        ljmp    $SEGMENT, $0
        .org    0x400, 0xF4
