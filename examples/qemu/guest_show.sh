#!/bin/busybox sh
# Lets IGT's programs use the vGPU, a few seconds each.
set -o pipefail
try() {
  about=$1
  shift
  echo "$about"
  echo "  \$ $*"
  timeout 120 "$@" 2>&1 | sed 's/^/  /' || echo "  failed with $?"
}
if [ ! -e /dev/dri/renderD128 ]; then
  echo "There is no /dev/dri/renderD128."
  exit 1
fi
echo
try "GPUs that IGT sees:" lsgpu
for engine in rcs bcs vcs vecs; do
  try "Empty batches on $engine, µs each:" gem_exec_nop -e $engine
done
try "The same with a wait for each, µs:" gem_exec_nop -s
try "Switching between contexts, µs each:" gem_exec_ctx -b switch
try "Copying 256 KiB by the blitter, MB/s:" gem_blt -s 262144 -t 300 -r 1
try "Binding and unbinding 1 MiB, µs each:" gem_exec_fault -s 1048576
gem_exec_nop -e all -r 2 > /dev/null &
# It has no end of its own.
top() { timeout -s INT 2 intel_gpu_top -l -s 500 || true; }
echo "What the engines are busy with, at empty batches:"
echo "  $ intel_gpu_top -l -s 500"
top 2>&1 | sed 's/^/  /'
