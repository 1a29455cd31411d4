#!/bin/busybox sh
# The guest's first process: a look at the vGPU, its driver if the guest has one, then a shell on the console.
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/usr/libexec/igt-gpu-tools/benchmarks HOME=/ TERM=linux PS1='guest # '
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t debugfs none /sys/kernel/debug
echo 2 > /proc/sys/kernel/printk
cd /
look
if [ -d /modules ]; then
  load
  show
fi
# The kernel hands a word of its command line, vgtt_end=1, on as a variable.
if [ "$vgtt_end" != 1 ]; then
  echo
  echo "A shell in the guest. 'look' looks again, 'poweroff -f' or Ctrl-A x ends."
  setsid cttyhack sh
fi
poweroff -f
