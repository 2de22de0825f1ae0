/* SPDX-License-Identifier: Apache-2.0
 *
 * Average pooling, eight values at a time.
 */
#include "average_pool.h"
