/* Hides features of an x86-64 processor from one process on Linux, so that libraries choose other kernels.
 *
 *     cc -O2 -shared -fPIC hide_cpu_features.c -o hide.so
 *     HIDE_CPU_FEATURES=vnni,avx512 LD_PRELOAD=./hide.so python ...
 *
 * Libraries ask the processor itself (the instruction CPUID), not the system. The processor can raise a fault instead
 * (arch_prctl ARCH_SET_CPUID); the handler asks it then, and answers without the hidden features: any of "vnni",
 * "avx512" and "avx2" (with AVX and FMA). Where the fault cannot be switched on, the process ends with status 99.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

enum { EAX, EBX, ECX, EDX };
static int vnni, avx512, avx2;

static void hide(uint32_t leaf, uint32_t sub, uint32_t *answer) {
    if (leaf == 1 && avx2) answer[ECX] &= ~(BIT(12) | BIT(28) | BIT(29)); /* FMA, AVX, F16C */
    if (leaf == 7 && sub == 0) {
        if (avx2) answer[EBX] &= ~BIT(5);
        if (vnni) answer[ECX] &= ~BIT(11);
        if (vnni) answer[EDX] &= ~(BIT(22) | BIT(24) | BIT(25)); /* AMX */
        if (avx512) {
            answer[EBX] &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
            answer[ECX] &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14));
            answer[EDX] &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25));
        }
    }
    if (leaf == 7 && sub == 1) {
        if (vnni) answer[EAX] &= ~BIT(4); /* AVX-VNNI */
        if (vnni) answer[EDX] &= ~(BIT(4) | BIT(10));
        if (avx512) answer[EAX] &= ~BIT(5);
    }
}

static void answer_cpuid(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    uint32_t leaf = registers[REG_RAX], sub = registers[REG_RCX], answer[4];
    (void)info;
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) { /* another fault: a true one */
        signal(number, SIG_DFL);
        return;
    }
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    __asm__ volatile("cpuid"
                     : "=a"(answer[EAX]), "=b"(answer[EBX]), "=c"(answer[ECX]), "=d"(answer[EDX])
                     : "a"(leaf), "c"(sub));
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    hide(leaf, sub, answer);
    registers[REG_RAX] = answer[EAX];
    registers[REG_RBX] = answer[EBX];
    registers[REG_RCX] = answer[ECX];
    registers[REG_RDX] = answer[EDX];
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    const char *asked = getenv("HIDE_CPU_FEATURES");
    struct sigaction action;
    if (!asked) return;
    vnni = strstr(asked, "vnni") != NULL;
    avx512 = strstr(asked, "avx512") != NULL;
    avx2 = strstr(asked, "avx2") != NULL;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer_cpuid;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, NULL);
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) _exit(99);
}
