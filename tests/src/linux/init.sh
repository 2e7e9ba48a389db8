#!/bin/sh
# Init of the Linux test guest: prints a greeting, starts the guest agent when its port exists, and powers off on
# SIGUSR1 and reboots on SIGUSR2, which /sbin/shutdown sends. It copies each line from the console to /run/gate, which the agent reads as its
# os-release file.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec 0</dev/ttyS0 1>/dev/ttyS0 2>&1
stty -echo -onlcr
echo "linux: init"

mkfifo /run/gate /run/port
while read -r line; do echo "$line" >/run/gate; done </dev/ttyS0 &

case "$(cat /proc/cmdline)" in *without-agent*) wait ;; esac

# mdev runs the command of /etc/mdev.conf for each port: for existing ports before `mdev -d` returns, for later ports as
# they appear. The kernel creates a port some time after its module is loaded, or at any time if the module is built in.
# The pipe is open for reading and writing, so that the command of mdev does not block.
exec 3<>/run/port
mdev -d
while read -r module; do insmod "$module"; done </lib/modules/order
read -r port <&3
exec 3<&-

# The agent logs to the console, so that a test can wait for what it does. For `guest-get-osinfo` it reads the file in
# QGA_OS_RELEASE (QEMU, `qga/commands-posix.c`, `qmp_guest_get_osinfo`). Here that is a pipe, so it blocks until a line
# is written.
QGA_OS_RELEASE=/run/gate qemu-ga -v --method=virtio-serial --path="/dev/$port" --statedir=/run &
agent=$!
echo "linux: agent"

# As a real init does: end the services first, each in an orderly way.
trap 'kill "$agent"; wait "$agent"; echo "linux: powering off"; poweroff -f' USR1
trap 'kill "$agent"; wait "$agent"; echo "linux: rebooting"; reboot -f' USR2
wait "$agent"
echo "linux: agent ended"
wait
