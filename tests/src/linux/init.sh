#!/bin/sh
# Decides what our Linux guest does: it greets, starts the guest agent when its port is there, and powers off when
# /sbin/shutdown tells it to. What is typed it hands to whoever reads /run/gate: the agent, which is told to read there
# what it tells of the system.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec 0</dev/ttyS0 1>/dev/ttyS0 2>&1
stty -echo -onlcr
echo "linux: init"

mkfifo /run/gate /run/port
while read -r line; do echo "$line" >/run/gate; done </dev/ttyS0 &

case "$(cat /proc/cmdline)" in *without-agent*) wait ;; esac

# It has told us of the ports that are there by /etc/mdev.conf when this returns, and tells us of those that come: the
# kernel makes them some time after the module is loaded, or has it built in. So that it need not wait for us to read, the
# pipe is open.
exec 3<>/run/port
mdev -d
while read -r module; do insmod "$module"; done </lib/modules/order
read -r port <&3
exec 3<&-

# Whatever the agent does it says on the console, so that a test can wait for it.
QGA_OS_RELEASE=/run/gate qemu-ga -v --method=virtio-serial --path="/dev/$port" --statedir=/run &
agent=$!
echo "linux: agent"

# As a real one: services first, and each may finish what it is doing.
trap 'kill "$agent"; wait "$agent"; echo "linux: powering off"; poweroff -f' USR1
wait "$agent"
echo "linux: agent ended"
wait
