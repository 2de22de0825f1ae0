/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EK_SERVE_STDIO_H
#define EK_SERVE_STDIO_H

/* Serves the protocol of serve/protocol.h until the other side ends; returns the exit code. */
int serve_stdio(void);

#endif /* EK_SERVE_STDIO_H */
