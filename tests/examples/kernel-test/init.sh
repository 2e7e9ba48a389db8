#!/bin/busybox sh
# Decides what the guest does: it has /command run, by itself or by the guest agent. Its first serial port is its
# console; on the second it tells when it is ready, and with which code the command has ended.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec 0</dev/null 1>/dev/ttyS0 2>&1 3>/dev/ttyS1
stty -F /dev/ttyS0 -onlcr

if [ -x /usr/sbin/qemu-ga ]; then
    # mdev tells of the agent's port when the kernel has made it, before mdev runs or after: see /etc/mdev.conf. So that
    # it need not wait for us to read, the pipe is open.
    mkfifo /run/port
    exec 4<>/run/port
    mdev -d
    while read -r module; do insmod "$module"; done </lib/modules/order
    read -r port <&4
    exec 4<&-
    echo "ready." >&3
    # Whatever it does it says on the second port: so the host knows when the command has ended, and need not ask.
    qemu-ga -v --method=virtio-serial --path="/dev/$port" --statedir=/run >&3 2>&1
    echo "the guest agent ended"
else
    echo "ready." >&3
    /command 3>&-
    code=$?
    # What changes a port waits until all that was printed there has been sent.
    stty -F /dev/ttyS0 onlcr
    echo "exit $code." >&3
fi

# An init that ends is a panic. The host ends the machine.
read -r _ </dev/ttyS1
