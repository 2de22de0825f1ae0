/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EK_CRC32_H
#define EK_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32 of ISO-HDLC (zlib, PNG): polynomial 0xEDB88320, reflected. Start with `crc` 0 and pass
 * the result on for further pieces. */
uint32_t ek_crc32(uint32_t crc, const void *data, size_t size);

#endif /* EK_CRC32_H */
