/* SPDX-License-Identifier: Apache-2.0
 *
 * What the example sketch uses of Arduino. Numbers are printed as their bits, one a line.
 */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stdint.h>
#include <string.h>

struct Printer {
    static void begin(long) {}
    static void println(const char *text);
    static void println(int value);
    static void println(float value, int digits);
};
static Printer Serial;

static inline void delay(unsigned long) {}

#endif /* ARDUINO_H */
