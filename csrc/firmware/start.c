/* SPDX-License-Identifier: Apache-2.0
 *
 * Start of a Cortex-M, ARMv6-M to ARMv8.1-M, without a C library: the vector table, memory as C
 * expects it, floating-point and vector units on, a stack whose use can be measured. The linker
 * script defines the symbols.
 */
#include "start.h"
#include "semihosting.h"

extern uint32_t ek_data_load[], ek_data_begin[], ek_data_end[];
extern uint32_t ek_bss_begin[], ek_bss_end[];
extern uint32_t ek_stack_limit[], ek_stack_top[];

int main(void);

#define STACK_PAINT 0x5AFEC0DEu

/* System control block: configuration and control, coprocessor access. */
#define SCB_CCR (*(volatile uint32_t *)0xE000ED14u)
#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#define CCR_LOW_OVERHEAD_LOOPS (1u << 19)
#define CPACR_FLOAT_AND_VECTORS (0xFu << 20)

static void enable_coprocessors(void)
{
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    SCB_CPACR |= CPACR_FLOAT_AND_VECTORS;
#endif
#ifdef __ARM_FEATURE_MVE
    SCB_CCR |= CCR_LOW_OVERHEAD_LOOPS;
#endif
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

/* ARMv8-M stops at the limit; before that, only the paint tells. */
static void limit_stack(void)
{
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
    __asm__ volatile("msr msplim, %0" ::"r"(ek_stack_limit));
#endif
}

/* Inline, as the words in use must stay. */
static inline __attribute__((always_inline)) void paint_stack(void)
{
    const uint32_t *top;
    __asm__ volatile("mov %0, sp" : "=r"(top));
    for (volatile uint32_t *word = ek_stack_limit; word < top; word++)
        *word = STACK_PAINT;
}

uint32_t stack_used(void)
{
    const volatile uint32_t *word = ek_stack_limit;
    while (word < ek_stack_top && *word == STACK_PAINT)
        word++;
    return (uint32_t)((uintptr_t)ek_stack_top - (uintptr_t)word);
}

_Noreturn void ek_start(void);

/* volatile: the loops must not become calls to a memcpy that may need what is being set up. */
_Noreturn void ek_start(void)
{
    paint_stack();
    limit_stack();
    enable_coprocessors();
    const uint32_t *from = ek_data_load;
    for (volatile uint32_t *to = ek_data_begin; to < ek_data_end; to++)
        *to = *from++;
    for (volatile uint32_t *word = ek_bss_begin; word < ek_bss_end; word++)
        *word = 0;
    semi_exit(main());
}

/* Exit code of a program that was stopped by a fault. */
#define FAULT_EXIT 125

static void fault(void)
{
    semi_puts("fault\n");
    semi_exit(FAULT_EXIT);
}

typedef void (*vector)(void);

__attribute__((used, section(".vectors"))) static const struct {
    uint32_t *stack_top;
    vector start;
    vector exceptions[14];
} vectors = {
    ek_stack_top,
    ek_start,
    {fault, fault, fault, fault, fault, fault, 0, 0, 0, fault, fault, 0, fault, fault},
};
