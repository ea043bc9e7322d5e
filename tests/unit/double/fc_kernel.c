#include "fc_kernel.h"

#include <elf.h>

enum { LOAD = 0x100000 };

/* clang-format off */
static const unsigned char code[] = {
        0x48, 0x8d, 0x35, 0x4a, 0x00, 0x00, 0x00, /*       lea  msg(%rip), %rsi  */
        0x8a, 0x06,                               /* 1:    mov  (%rsi), %al      */
        0x84, 0xc0,                               /*       test %al, %al         */
        0x74, 0x0b,                               /*       jz   poll             */
        0xba, 0xf8, 0x03, 0x00, 0x00,             /*       mov  $0x3f8, %edx     */
        0xee,                                     /*       out  %al, %dx         */
        0x48, 0xff, 0xc6,                         /*       inc  %rsi             */
        0xeb, 0xef,                               /*       jmp  1b               */
        0xf3, 0x90,                               /* poll: pause                 */
        0xba, 0xfd, 0x03, 0x00, 0x00,             /*       mov  $0x3fd, %edx     */
        0xec,                                     /*       in   %dx, %al         */
        0xa8, 0x01,                               /*       test $1, %al          */
        0x74, 0x1e,                               /*       jz   keys             */
        0xba, 0xf8, 0x03, 0x00, 0x00,             /*       mov  $0x3f8, %edx     */
        0xec,                                     /*       in   %dx, %al         */
        0x3c, 'b',                                /*       cmp  $'b', %al        */
        0x74, 0x1c,                               /*       je   reset            */
        0x3c, 'c',                                /*       cmp  $'c', %al        */
        0x75, 0x10,                               /*       jne  keys             */
        0xfe, 0x05, 0x18, 0x00, 0x00, 0x00,       /*       incb count(%rip)      */
        0x8a, 0x05, 0x12, 0x00, 0x00, 0x00,       /*       mov  count(%rip), %al */
        0xee,                                     /*       out  %al, %dx         */
        0xb0, '\n',                               /*       mov  $'\n', %al       */
        0xee,                                     /*       out  %al, %dx         */
        0xe4, 0x64,                               /* keys: in   $0x64, %al       */
        0xa8, 0x01,                               /*       test $1, %al          */
        0x74, 0xd0,                               /*       jz   poll             */
        0xe4, 0x60,                               /*       in   $0x60, %al       */
        0xb0, 0xfe,                               /* reset: mov $0xfe, %al       */
        0xe6, 0x64,                               /*       out  %al, $0x64       */
        0xeb, 0xc8,                               /*       jmp  poll             */
        '0',                                      /* count                       */
        'r', 'e', 'a', 'd', 'y', '\n', 0,         /* msg                         */
};
/* clang-format on */

void fc_kernel(const char *fault, struct cc_buf *ret)
{
        Elf64_Ehdr eh = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
                          .e_type = ET_EXEC,
                          .e_machine = EM_X86_64,
                          .e_version = EV_CURRENT,
                          .e_entry = LOAD,
                          .e_phoff = sizeof(eh),
                          .e_ehsize = sizeof(eh),
                          .e_phentsize = sizeof(Elf64_Phdr),
                          .e_phnum = 1 };
        Elf64_Phdr ph = { .p_type = PT_LOAD,
                          .p_flags = PF_R | PF_W | PF_X,
                          .p_offset = sizeof(eh) + sizeof(ph),
                          .p_vaddr = LOAD,
                          .p_paddr = LOAD,
                          .p_filesz = sizeof(code),
                          .p_memsz = sizeof(code),
                          .p_align = 0x1000 };

        if (cc_streq(fault, "empty"))
                return;
        if (cc_streq(fault, "magic"))
                eh.e_ident[0] = 'X';
        else if (cc_streq(fault, "endian"))
                eh.e_ident[EI_DATA] = ELFDATA2MSB;
        else if (cc_streq(fault, "phentsize"))
                eh.e_phentsize = 32;
        else if (cc_streq(fault, "phoff"))
                eh.e_phoff = 10;
        else if (cc_streq(fault, "phoff-far"))
                eh.e_phoff = UINT64_C(1) << 40;
        else if (cc_streq(fault, "phnum"))
                eh.e_phnum = 40;
        else if (cc_streq(fault, "entry"))
                eh.e_entry = 0x1000;
        else if (cc_streq(fault, "truncated"))
                ph.p_filesz = ph.p_memsz = 100000;
        else if (cc_streq(fault, "high"))
                ph.p_paddr = 0x10000000;
        cc_buf_add(ret, &eh, cc_streq(fault, "short") ? 4 : sizeof(eh));
        if (cc_streq(fault, "short"))
                return;
        cc_buf_add(ret, &ph, sizeof(ph));
        cc_buf_add(ret, code, sizeof(code));
}
