#!/.kernel-test/busybox sh
# Init of the guest: loads modules, mounts shared directories, runs the command, and reports on the second serial port, in
# lines: `ready`, `failed WHY`, `copied BYTES`, `missing`, `exit CODE`. The first serial port is the console, the third is
# for files. The kernel starts busybox with this file as an argument, so it needs no support for scripts.
ours=/.kernel-test
bb=$ours/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$ours/bin
$bb mkdir -p /dev /proc /sys /run /tmp $ours/bin
# A kernel without one of these file systems runs the command all the same. The initramfs has the device nodes.
$bb mount -t proc proc /proc 2>/dev/null
$bb mount -t sysfs sysfs /sys 2>/dev/null
$bb mount -t devtmpfs devtmpfs /dev 2>/dev/null
$bb --install -s $ours/bin
$bb mkfifo /run/stay

mark=
if [ -c /dev/ttyS1 ] && $bb stty -F /dev/ttyS1 >/dev/null 2>&1; then
    exec 3>/dev/ttyS1
else
    # With one serial port, the reports are lines of the console, which begin with a text that the host chose. The kernel
    # prints only emergencies from here on, so that it does not write into these lines.
    mark="$($bb cat $ours/mark) "
    $bb dmesg -n 1
    exec 3>/dev/ttyS0
fi
exec </dev/null >/dev/ttyS0 2>&1
$bb stty -F /dev/ttyS0 -onlcr

report() { echo "$mark$*" >&3; }

# The kernel panics if init ends, so init waits, for a pipe that nothing writes to. The host ends the machine.
stay() {
    exec 3>&-
    read -r _ <>/run/stay
}

stop() { report "failed $*"; stay; }

while read -r module; do
    $bb insmod "$module" || stop "cannot load the module $module"
done <$ours/modules.list

while read -r tag type options path; do
    $bb mkdir -p "$path"
    $bb mount -t "$type" -o "$options" "$tag" "$path" ||
        stop "cannot mount $path: the kernel needs the file system $type and the driver of its transport"
done <$ours/shares

if [ -x /usr/sbin/qemu-ga ] && [ -e $ours/agent ]; then
    # mdev writes the name of the agent's port to this pipe when the kernel has created the port, before mdev runs or
    # after: see /etc/mdev.conf. The pipe is open for reading and writing, so that mdev does not wait for a reader.
    $bb mkfifo /run/port
    exec 4<>/run/port
    $bb mdev -d
    read -r port <&4
    exec 4<&-
    report ready
    qemu-ga --method=virtio-serial --path="/dev/$port" --statedir=/run
    stop "the guest agent ended"
fi

report ready
$bb sh $ours/command 3>&-
code=$?

if [ -s $ours/copies ]; then
    exec 4>/dev/ttyS2
    $bb stty -F /dev/ttyS2 raw
    while read -r path; do
        if [ -d "$path" ]; then
            report "copied $($bb tar -c -f - -C "$path" . | $bb tee /dev/ttyS2 | $bb wc -c)"
        elif [ -r "$path" ]; then
            report "copied $($bb tee /dev/ttyS2 <"$path" | $bb wc -c)"
        else
            report missing
        fi
    done <$ours/copies
    $bb stty -F /dev/ttyS2 opost
fi
# Changing a port waits until its output has been sent. Otherwise the host could end the machine before that.
$bb stty -F /dev/ttyS0 onlcr
report "exit $code"
stay
