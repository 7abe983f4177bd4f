// What Prometheus' own libraries tell of a process, under the same names.
#ifndef EVENTVIRTUAL_SERVER_METRICS_PROCESS_METRICS_H_
#define EVENTVIRTUAL_SERVER_METRICS_PROCESS_METRICS_H_

#include "server/metrics/families.h"

namespace eventvirtual {

// Reads /proc/self (proc(5)); what cannot be read there is left out.
void AddProcess(Families* families);

}  // namespace eventvirtual

#endif  // EVENTVIRTUAL_SERVER_METRICS_PROCESS_METRICS_H_
