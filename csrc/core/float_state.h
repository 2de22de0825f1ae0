/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EK_FLOAT_STATE_H
#define EK_FLOAT_STATE_H

/* Whether binary32 arithmetic, as this build does it on this thread, rounds to nearest even and
 * rounds every operation: 1 or 0. */
int ek_float_state_is_sound(void);

#endif /* EK_FLOAT_STATE_H */
