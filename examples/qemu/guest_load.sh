#!/bin/busybox sh
# Loads i915 and all that it needs, without a parameter, and shows what the driver says.
echo "Loading i915:"
while read -r module; do
  insmod "/modules/$module.ko" || echo "  $module: not loaded"
done < /modules/order
dmesg | sed -n 's/^\[[ 0-9.]*\] \(i915 .*\|\[drm.*\)/  \1/p'
ls /dev/dri 2>/dev/null | sed 's/^/  \/dev\/dri\//'
