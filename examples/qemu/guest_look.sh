#!/bin/busybox sh
# Shows the PCI bus, and of each vGPU its BARs and the first fields of PVINFO.
echo "PCI functions:"
for device in /sys/bus/pci/devices/*; do
  echo "  ${device##*/}  class $(cat "$device/class")  id $(cat "$device/vendor"):$(cat "$device/device")"
done
for device in /sys/bus/pci/devices/*; do
  case "$(cat "$device/vendor") $(cat "$device/class")" in "0x8086 0x03"*) ;; *) continue ;; esac
  echo "vGPU ${device##*/}:"
  echo 1 > "$device/enable"
  bar=0
  while read -r begin end flags; do
    if [ $bar -lt 6 ] && [ $((end)) -gt 0 ]; then
      echo "  BAR $bar: $(((end - begin + 1) >> 20)) MiB at $begin"
      if [ $bar = 0 ]; then registers=$begin; fi
    fi
    bar=$((bar + 1))
  done < "$device/resource"
  # PVINFO (spec: src/vgpu/guest.md): the magic says "this is a vGPU of GVT-g".
  echo "  PVINFO magic   $(devmem $((registers + 0x78000)) 64)   (0x4776544776544776: vGTvGTvG)"
  echo "  PVINFO version $(devmem $((registers + 0x78008)) 16), aperture" \
    "$(devmem $((registers + 0x78044)) 32) bytes, hidden $(devmem $((registers + 0x7804c)) 32) bytes"
done
