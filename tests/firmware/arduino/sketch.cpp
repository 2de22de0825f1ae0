/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs the example sketch once on the input of input.h; under semihosting, or where there is a libc.
 */
#include "Arduino.h"
#include "infer.ino"

#include "input.h"

#ifdef SEMIHOSTING
extern "C" {
#include "semihosting.h"
}
static void put(const char *text) { semi_puts(text); }
static void put(uint32_t value) { semi_number(value); }
#else
#include <stdio.h>
static void put(const char *text) { fputs(text, stdout); }
static void put(uint32_t value) { printf("%lu", static_cast<unsigned long>(value)); }
#endif

void Printer::println(const char *text)
{
    put(text);
    put("\n");
}

void Printer::println(int value)
{
    put(static_cast<uint32_t>(value));
    put("\n");
}

void Printer::println(float value, int)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(bits);
    put("\n");
}

int main()
{
    memcpy(inputs, input, sizeof input);
    setup();
    put(static_cast<uint32_t>(ek_memory_needed(&net.model, EDGEKIT_MODEL_KERNELS, 1)));
    put("\n");
    loop();
    return 0;
}
