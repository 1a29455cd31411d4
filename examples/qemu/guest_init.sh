#!/bin/busybox sh
# The guest's first process: a look at the vGPU, then a shell on the console.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=linux PS1='guest # '
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
echo 2 > /proc/sys/kernel/printk
cd /
look
echo
echo "A shell in the guest. 'look' looks again, 'poweroff -f' or Ctrl-A x ends."
setsid cttyhack sh
poweroff -f
