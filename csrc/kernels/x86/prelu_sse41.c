/* SPDX-License-Identifier: Apache-2.0
 *
 * PRelu, four values at a time.
 */
#include "prelu.h"
