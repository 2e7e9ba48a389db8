#!/.kernel-test/busybox sh
# Init of the guest: loads modules, mounts shared directories, runs the command, and reports on the second serial port, in
# lines that begin with a mark: `ready`, `failed WHY`, `exited CODE`, `copied BYTES`, `missing`, `exit CODE`. The first
# serial port is the console, the third is for files. The kernel starts busybox with this file as an argument, so it needs no support for scripts.
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

# The host chose the mark. The command does not find it in a file.
mark=$($bb cat $ours/mark)
$bb rm $ours/mark
if [ -c /dev/ttyS1 ] && $bb stty -F /dev/ttyS1 >/dev/null 2>&1; then
    exec 3>/dev/ttyS1
else
    # With one serial port, the reports are lines of the console. The kernel prints only emergencies during a report, so
    # that it does not write into these lines.
    level=7
    [ ! -r /proc/sys/kernel/printk ] || read -r level _ </proc/sys/kernel/printk
    exec 3>/dev/ttyS0
fi
exec </dev/null >/dev/ttyS0 2>&1
$bb stty -F /dev/ttyS0 -onlcr

# The line feed before a report ends a line that something else has begun. Changing a port waits until its output has been
# sent.
report() {
    [ -z "$level" ] || $bb dmesg -n 1
    $bb printf '\n%s %s\n' "$mark" "$*" >&3
    [ -z "$level" ] || { $bb stty -F /dev/ttyS0 -onlcr && $bb dmesg -n "$level"; }
}

# The kernel panics if init ends, so init waits, for a pipe that nothing writes to. The host ends the machine.
stay() {
    exec 3>&-
    read -r _ <>/run/stay
}

stop() { report "failed $*"; stay; }

while IFS= read -r module; do
    $bb insmod "$module" || stop "cannot load the module $module"
done <$ours/modules.list

# Mounts the first file system of `TYPE:OPTIONS...` that works. Otherwise prints why, and leaves the types in `types`.
share() {
    types= errors=
    for way in $ways; do
        error=$($bb mount -t "${way%%:*}" -o "${way#*:}" "$tag" "$path" 2>&1) && return
        types=${types:+$types or }${way%%:*}
        errors="$errors$error
"
    done
    $bb printf %s "$errors"
    return 1
}

# The path has a line of its own, since it may begin or end with a blank.
while read -r tag ways && IFS= read -r path && IFS= read -r note; do
    $bb mkdir -p "$path"
    share || stop "cannot mount $path: the kernel needs the file system $types and the driver of its transport$note"
done <$ours/shares

# The node may be there without a port.
if [ -s $ours/copies ]; then
    [ -c /dev/ttyS2 ] && $bb stty -F /dev/ttyS2 raw 2>/dev/null || stop "this kernel has no third serial port for the copies"
fi

if [ -x /usr/sbin/qemu-ga ] && [ -e $ours/agent ]; then
    # mdev writes the name of the agent's port to this pipe when the kernel has created the port, before mdev runs or
    # after: see /etc/mdev.conf. The pipe is open for reading and writing, so that mdev does not wait for a reader.
    $bb mkfifo /run/port
    exec 4<>/run/port
    $bb mdev -d
    read -t 120 -r port <&4 || stop "the port of the agent does not appear: the kernel needs the driver virtio_console"
    exec 4<&-
    report ready
    qemu-ga --method=virtio-serial --path="/dev/$port" --statedir=/run
    stop "the guest agent ended"
fi

report ready
$bb sh $ours/command 3>&-
code=$?

if [ -s $ours/copies ]; then
    report "exited $code"
    exec 4>/dev/ttyS2
    $bb stty -F /dev/ttyS2 raw
    while IFS= read -r path; do
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
