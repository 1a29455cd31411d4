# Where the VMM starts the guest: 64-bit mode, a stack, addresses mapped one to one, interrupts off.

        .section .text.start, "ax"
        .globl start
start:
        lgdt    gdt_pointer
        pushq   $0x08                   # the code segment again, now from our own table:
        leaq    1f(%rip), %rax          # iretq will look it up there
        pushq   %rax
        lretq
1:      movw    $0x10, %ax
        movw    %ax, %ss
        movw    %ax, %ds
        movw    %ax, %es
        call    guest_main
2:      hlt
        jmp     2b

# The device's interrupt. The C part saves no registers, so all that a function may change are saved here.
        .globl device_interrupt_entry
device_interrupt_entry:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        cld
        call    device_interrupt
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rdx
        popq    %rcx
        popq    %rax
        iretq

        .data
        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff      # 64-bit code
        .quad   0x00cf93000000ffff      # data
gdt_pointer:
        .word   . - gdt - 1
        .quad   gdt

        .section .note.GNU-stack, "", @progbits
