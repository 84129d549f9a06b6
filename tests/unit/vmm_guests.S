/* Small guests: each is copied to 0x1000 of a machine's memory and entered there. */
    .section .rodata
    .macro guest name
    .globl guest_\name, guest_\name\()_end
guest_\name:
    .endm
    .macro end name
guest_\name\()_end:
    .endm

    .code16
guest hello
    mov $0x3f8, %dx
    mov $'H', %al
    out %al, %dx
    mov $'i', %al
    out %al, %dx
    mov $0x501, %dx
    mov $42, %al
    out %al, %dx
1:  hlt
    jmp 1b
end hello

/* An interrupt of the serial port, by the old controllers: its handler leaves with what caused it. */
guest interrupt
    xor %ax, %ax
    mov %ax, %ds
    movw $(0x1000 + 1f - guest_interrupt), 0x24 * 4
    movw %ax, 0x24 * 4 + 2
    mov $0x11, %al
    out %al, $0x20
    mov $0x20, %al
    out %al, $0x21
    mov $4, %al
    out %al, $0x21
    mov $1, %al
    out %al, $0x21
    mov $0xef, %al
    out %al, $0x21
    mov $0x7000, %sp
    mov $0x3f9, %dx
    mov $2, %al
    out %al, %dx
    sti
2:  hlt
    jmp 2b
1:  mov $0x3fa, %dx
    in %dx, %al
    mov $0x501, %dx
    out %al, %dx
3:  jmp 3b
end interrupt

/* A port where nothing answers. */
guest nothing
    mov $0x9999, %dx
    in %dx, %al
    mov $0x501, %dx
    out %al, %dx
1:  hlt
    jmp 1b
end nothing

/* Echoes what comes in by the serial port until a 'q' comes. */
guest echo
1:  mov $0x3fd, %dx
2:  in %dx, %al
    test $1, %al
    jz 2b
    mov $0x3f8, %dx
    in %dx, %al
    mov %al, %bl
3:  mov $0x3fd, %dx
    in %dx, %al
    test $0x20, %al
    jz 3b
    mov %bl, %al
    mov $0x3f8, %dx
    out %al, %dx
    cmp $'q', %al
    jne 1b
    mov $0x501, %dx
    xor %al, %al
    out %al, %dx
4:  hlt
    jmp 4b
end echo

/* Writes to a port where a device of the test is. */
guest ring
    mov $0x700, %dx
    out %al, %dx
1:  hlt
    jmp 1b
end ring

    .code64
/* Rings a doorbell three times, then leaves with what the device beside it reads. */
guest doorbell
    mov $0xd0000050, %eax
    movl $0, (%rax)
    movl $0, (%rax)
    movl $1, (%rax)
    mov $0xd0000000, %ebx
    mov (%rbx), %eax
    mov $0x501, %edx
    out %al, %dx
1:  hlt
    jmp 1b
end doorbell

/* Counts at 0x5000 until something is at 0x5008; leaves with that. */
guest count
1:  incq 0x5000
    mov 0x5008, %eax
    test %eax, %eax
    jz 1b
    mov $0x501, %edx
    out %al, %dx
2:  hlt
    jmp 2b
end count

/* Writes to three pages, then waits at 0x5008. */
guest dirty
    movq $1, 0x10000
    movq $1, 0x12000
    movq $1, 0x12008
    movq $1, 0x5000
1:  mov 0x5008, %eax
    test %eax, %eax
    jz 1b
    mov $0x501, %edx
    out %al, %dx
2:  hlt
    jmp 2b
end dirty

/* No table to find a handler in, and an undefined instruction. */
guest triple
    lidt 1f(%rip)
    ud2
    .balign 8
1:  .word 0
    .quad 0
end triple

/* Starts the second CPU by INIT and SIPI; that one leaves with its APIC id, shifted. */
guest smp
    mov $0xfee000f0, %eax
    movl $0x000001ff, (%rax)
    mov $0xfee00300, %eax
    movl $0x01000000, 0x10(%rax)
    movl $0x00004500, (%rax)
    mov $0x01000000, %ecx
    mov %ecx, 0x10(%rax)
    movl $0x00004610, (%rax)
1:  hlt
    jmp 1b
end smp

    .code16
/* At 0x10000, where the SIPI above points. */
guest second
    mov $0x501, %dx
    mov $77, %al
    out %al, %dx
1:  hlt
    jmp 1b
end second

    .code64
/* Sleep type S5, through the sleep control register. */
guest off
    mov $0x600, %edx
    mov $(5 << 2 | 0x20), %al
    out %al, %dx
1:  hlt
    jmp 1b
end off

/* Seconds of the clock, in binary. */
guest clock
    mov $11, %al
    out %al, $0x70
    mov $6, %al
    out %al, $0x71
    mov $9, %al
    out %al, $0x70
    in $0x71, %al
    mov $0x501, %edx
    out %al, %dx
1:  hlt
    jmp 1b
end clock

/*
 * Random accesses without end (vmm_hostile_test.c). At 0x5010 the seed; at 0x6000 64 times base,
 * mask, kind: memory or registers, ports, or a list of writes; at 0x6800 64 values to prefer.
 */
guest fuzz
    mov 0x5010, %r15
    movabs $6364136223846793005, %r13
    movabs $1442695040888963407, %r12
1:  incq 0x5000
    imul %r13, %r15
    add %r12, %r15
    mov %r15, %rax
    shr $58, %rax
    lea (%rax, %rax, 2), %rax
    lea 0x6000(, %rax, 8), %rbx
    mov %r15, %rdi
    shr $20, %rdi
    and 8(%rbx), %rdi
    add (%rbx), %rdi
    mov %r15, %rcx
    shr $12, %rcx
    imul %r13, %r15
    add %r12, %r15
    mov %r15, %rsi
    shr $16, %rsi
    test %r15, %r15
    js 2f
    and $63, %esi
    mov 0x6800(, %rsi, 8), %rsi
2:  mov 16(%rbx), %eax
    cmp $1, %eax
    je 5f
    ja 8f
    test $4, %cl
    jz 4f
    and $3, %ecx
    jz 3f
    cmp $2, %ecx
    jb 6f
    je 7f
    mov %rsi, (%rdi)
    jmp 1b
3:  mov %sil, (%rdi)
    jmp 1b
6:  mov %si, (%rdi)
    jmp 1b
7:  mov %esi, (%rdi)
    jmp 1b
4:  and $3, %ecx
    jz 3f
    cmp $2, %ecx
    jb 6f
    je 7f
    mov (%rdi), %rax
    jmp 1b
3:  mov (%rdi), %al
    jmp 1b
6:  mov (%rdi), %ax
    jmp 1b
7:  mov (%rdi), %eax
    jmp 1b
5:  mov %edi, %edx
    mov %esi, %eax
    test $4, %cl
    jz 4f
    and $3, %ecx
    jz 3f
    cmp $2, %ecx
    jb 6f
    out %eax, %dx
    jmp 1b
3:  out %al, %dx
    jmp 1b
6:  out %ax, %dx
    jmp 1b
4:  and $3, %ecx
    jz 3f
    cmp $2, %ecx
    jb 6f
    in %dx, %eax
    jmp 1b
3:  in %dx, %al
    jmp 1b
6:  in %dx, %ax
    jmp 1b
8:  mov (%rbx), %rbx
9:  mov (%rbx), %rdi
    mov 8(%rbx), %ecx
    mov 12(%rbx), %esi
    add $16, %rbx
    test %ecx, %ecx
    jz 1b
    cmp $2, %ecx
    jb 3f
    je 6f
    mov %esi, (%rdi)
    jmp 9b
3:  mov %sil, (%rdi)
    jmp 9b
6:  mov %si, (%rdi)
    jmp 9b
end fuzz
/* At 0x10000: counts at 0x5010 for ever. */
    .code16
guest second_counts
    xor %ax, %ax
    mov %ax, %ds
1:  incl 0x5010
    jmp 1b
end second_counts

/* Makes the serial port's interrupt wait, says so at 0x5000, and takes it when 0x5008 says so:
 * leaves with its cause. */
guest pending
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %ss
    movw $(0x1000 + 1f - guest_pending), 0x24 * 4
    movw %ax, 0x24 * 4 + 2
    mov $0x11, %al
    out %al, $0x20
    mov $0x20, %al
    out %al, $0x21
    mov $4, %al
    out %al, $0x21
    mov $1, %al
    out %al, $0x21
    mov $0xef, %al
    out %al, $0x21
    mov $0x7000, %sp
    mov $0x3f9, %dx
    mov $2, %al
    out %al, %dx
    incl 0x5000
2:  mov 0x5008, %eax
    test %eax, %eax
    jz 2b
    sti
3:  hlt
    jmp 3b
1:  mov $0x3fa, %dx
    in %dx, %al
    mov $0x501, %dx
    out %al, %dx
4:  jmp 4b
end pending

/* Sends 3000 letters, says so at 0x5000, waits for 0x5008. */
guest talk
    xor %ax, %ax
    mov %ax, %ds
    mov $3000, %cx
    mov $'a', %bl
1:  mov $0x3fd, %dx
2:  in %dx, %al
    test $0x20, %al
    jz 2b
    mov $0x3f8, %dx
    mov %bl, %al
    out %al, %dx
    inc %bl
    cmp $'z' + 1, %bl
    jne 3f
    mov $'a', %bl
3:  dec %cx
    jnz 1b
    incl 0x5000
4:  mov 0x5008, %eax
    test %eax, %eax
    jz 4b
    mov $0x501, %dx
    out %al, %dx
5:  hlt
    jmp 5b
end talk

    .code64
/* String instructions from a window where nothing answers and to and from ports, over and over;
 * counts rounds at 0x5000 and leaves with what is at 0x5008, or with 99 when one byte or address is
 * wrong. KVM hands the first kind out byte by byte. */
guest strings
    cld
1:  mov $0x6000, %edi
    mov $0xd0000000, %esi
    mov $200, %ecx
    rep movsb
    mov $0xd0000000 + 200, %eax
    cmp %eax, %esi
    jne 3f
    mov $0x6000, %edi
    mov $200, %ecx
    mov $0xff, %al
    repe scasb
    jne 3f
    mov $0x6000, %edi
    mov $200, %ecx
    mov $0x3fd, %edx
    rep insb
    cmp $0x6000 + 200, %edi
    jne 3f
    mov $0x6000, %esi
    mov $200, %ecx
    mov $0x3ff, %edx
    rep outsb
    cmp $0x6000 + 200, %esi
    jne 3f
    incl 0x5000
    mov 0x5008, %eax
    test %eax, %eax
    jz 1b
2:  mov $0x501, %edx
    out %al, %dx
4:  hlt
    jmp 4b
3:  mov $99, %al
    jmp 2b
end strings

    .code64
/* The local APIC's timer counts at 0x5000 until 0x5008 says with what to leave. kvm-clock's page is
 * at 0x7000. */
guest timer
    lgdt 6f(%rip)
    lidt 7f(%rip)
    mov $0x7000, %esp
    mov $0xff, %al
    out %al, $0x21
    out %al, $0xa1
    mov $0x4b564d01, %ecx
    mov $0x7001, %eax
    xor %edx, %edx
    wrmsr
    lea 8f(%rip), %rax
    mov %ax, 0x6400
    movw $8, 0x6402
    movw $0x8e00, 0x6404
    mov $0xfee00000, %eax
    movl $0x1ff, 0xf0(%rax)
    movl $0xb, 0x3e0(%rax)
    movl $0x20040, 0x320(%rax)
    movl $1000000, 0x380(%rax)
    sti
1:  hlt
    jmp 1b
8:  incq 0x5000
    mov 0x5008, %eax
    test %eax, %eax
    jnz 2f
    mov $0xfee000b0, %eax
    movl $0, (%rax)
    iretq
2:  mov $0x501, %edx
    out %al, %dx
    iretq
    .balign 8
5:  .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
6:  .word 23
    .quad 0x1000 + 5b - guest_timer
7:  .word 0xfff
    .quad 0x6000
end timer

/* Counts interrupts with vector 0x40 at 0x5000. A handler waits until 0x5010 is not 0 before it tells
 * the local APIC that it has ended, and counts that at 0x5018. */
guest pins
    lgdt 6f(%rip)
    lidt 7f(%rip)
    mov $0x7000, %esp
    lea 8f(%rip), %rax
    mov %ax, 0x6400
    movw $8, 0x6402
    movw $0x8e00, 0x6404
    mov $0xfee00000, %eax
    movl $0x1ff, 0xf0(%rax)
    incq 0x5020
    sti
1:  hlt
    jmp 1b
8:  incq 0x5000
9:  pause
    mov 0x5010, %eax
    test %eax, %eax
    jz 9b
    mov $0xfee000b0, %eax
    movl $0, (%rax)
    incq 0x5018
    iretq
    .balign 8
5:  .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
6:  .word 23
    .quad 0x1000 + 5b - guest_pins
7:  .word 0xfff
    .quad 0x6000
end pins

/* Says the time stamp at 0x5000 until 0x5008 says with what to leave; 98 when it went back. */
guest stamps
    xor %ebx, %ebx
1:  rdtsc
    shl $32, %rdx
    or %rdx, %rax
    cmp %rbx, %rax
    jb 3f
    mov %rax, %rbx
    mov %rax, 0x5000
    mov 0x5008, %eax
    test %eax, %eax
    jz 1b
2:  mov $0x501, %edx
    out %al, %dx
4:  hlt
    jmp 4b
3:  mov $98, %al
    jmp 2b
end stamps

/* As smp above, and counts itself at 0x5000. */
guest smp_counts
    mov $0xfee000f0, %eax
    movl $0x000001ff, (%rax)
    mov $0xfee00300, %eax
    movl $0x01000000, 0x10(%rax)
    movl $0x00004500, (%rax)
    mov $0x01000000, %ecx
    mov %ecx, 0x10(%rax)
    movl $0x00004610, (%rax)
1:  incq 0x5000
    mov 0x5008, %eax
    test %eax, %eax
    jz 1b
    mov $0x501, %edx
    out %al, %dx
2:  hlt
    jmp 2b
end smp_counts

    .section .note.GNU-stack,"",@progbits
