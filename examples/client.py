#!/usr/bin/env python3
"""A second client of the vgtt protocol: builds a 4-level page table in guest RAM and lets the device shadow it.

Usage: client.py SOCKET            builds the table
       client.py --observe SOCKET  only looks, at whatever guest the device serves
Needs the msgpack package (Debian: python3-msgpack).
"""
import json
import socket
import struct
import sys

import msgpack

device = socket.socket(socket.AF_UNIX)
device.connect(sys.argv[-1])
replies = msgpack.Unpacker(raw=False)


def call(method, *params, call_id=iter(range(2**32))):
    number = next(call_id)
    device.sendall(msgpack.packb([0, number, method, params]))
    while True:
        for message in replies:
            if message[0] == 2:  # a notification
                print("  device:", *message[1:])
            elif message[2] is not None:
                sys.exit(f"{method}: {message[2]['code']}: {message[2]['message']}")
            else:
                return message[3]
        replies.feed(device.recv(65536) or sys.exit("the device closed the connection"))


role = "observer" if "--observe" in sys.argv else "vmm"
print("connected to", call("hello", {"protocol": 1, "role": role, "client": "client.py"})["server"])
if role == "observer":
    state = call("state")
    print(json.dumps({"stats": call("stats"), "state": state}, indent=1))
    for mm, level, *_ in state["mms"]:
        print(f"tables of mm {mm}, level {level}:", json.dumps(call("tree", mm)))
    sys.exit()
print("RAM:", call("ram_map", {"gpa": 0, "size": 2 << 20}))
# PML4 at 0x10000, PDP at 0x11000, PDE at 0x12000, PTE at 0x13000; page 0 of the space is guest frame 0x64.
for table, entry in [(0x10000, 0x11003), (0x11000, 0x12003), (0x12000, 0x13003), (0x13000, 0x64003)]:
    call("mem_write", table, struct.pack("<Q", entry))
PVINFO = 0x78000  # the root goes to pdp0, low and high; then "create a 4-level PPGTT" is notified
for register, value in [(0x838, 0x10000), (0x83C, 0), (0x818, 4)]:
    call("mmio_write", 0, PVINFO + register, 4, value)
mm = call("mm_find", 4, [0x10000, 0, 0, 0])
print("mm:", mm)
print("gma 0x123 is gpa", hex(call("gma_to_gpa", mm, 0x123)))
print("translate:", call("translate", mm, 0x123))
