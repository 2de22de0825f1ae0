/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling, four channels at a time.
 */
#include "average_pool.h"
