#!/bin/busybox sh
# Init of the guest: runs /command, itself or through the guest agent. The first serial port is the console. On the
# second, it reports that it is ready, and the exit code of the command.
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec 0</dev/null 1>/dev/ttyS0 2>&1 3>/dev/ttyS1
stty -F /dev/ttyS0 -onlcr

if [ -x /usr/sbin/qemu-ga ]; then
    # mdev writes the name of the agent's port to this pipe when the kernel has created the port, before mdev runs or
    # after: see /etc/mdev.conf. The pipe is open for reading and writing, so that mdev does not wait for a reader.
    mkfifo /run/port
    exec 4<>/run/port
    mdev -d
    while read -r module; do insmod "$module"; done </lib/modules/order
    read -r port <&4
    exec 4<&-
    echo "ready." >&3
    # The agent logs to the second port, so that the host knows when the command has ended, without polling.
    qemu-ga -v --method=virtio-serial --path="/dev/$port" --statedir=/run >&3 2>&1
    echo "the guest agent ended"
else
    echo "ready." >&3
    /command 3>&-
    code=$?
    # Changing a port waits until its output has been sent. Otherwise the host could end the machine before that.
    stty -F /dev/ttyS0 onlcr
    echo "exit $code." >&3
fi

# The kernel panics if init ends, so init waits. The host ends the machine.
read -r _ </dev/ttyS1
