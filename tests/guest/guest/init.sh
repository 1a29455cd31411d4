#!/bin/busybox sh
# The first process of a guest under test: starts the agent on the second serial line.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t debugfs none /sys/kernel/debug
echo 0 > /proc/sys/kernel/randomize_va_space
# A page whose address the agent told must stay where it is.
echo 0 > /proc/sys/vm/compact_unevictable_allowed
# A guest with i915 is as its users' are.
[ -d /modules ] || echo never > /sys/kernel/mm/transparent_hugepage/enabled
agent < /dev/ttyS1 > /dev/ttyS1
echo "the agent has ended"
poweroff -f
