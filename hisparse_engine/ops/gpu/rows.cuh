// Rows on their other ways: to the host, within the device pool, and found where they are at home on the device.
#pragma once

#include "device.cuh"

struct BackupArgs {
    const uint4* staged;
    uint4* host_rows;
    const int* home;
    int layers, batch, units;
    long long host_tokens;
};

// A warp for each row; few blocks are enough to fill the link.
__global__ void __launch_bounds__(1024) backup_rows(KERNEL_ARGS BackupArgs a) {
    wait_for_predecessors();
    for (int row = blockIdx.x * num_warps() + warp_id(); row < a.layers * a.batch; row += gridDim.x * num_warps()) {
        int layer = row / a.batch, slot = a.home[row - layer * a.batch];
        if (slot < 0) continue;
        const uint4* from = a.staged + static_cast<long long>(row) * a.units;
        uint4* to = a.host_rows + (layer * a.host_tokens + slot) * a.units;
        for (int unit = lane_id(); unit < a.units; unit += WARP) to[unit] = load_once(from + unit);
    }
}

struct MoveArgs {
    uint4* device_rows;
    const int *group_of_layer, *source, *target, *count;
    int capacity, units;
    long long device_tokens;
};

// Grid: (blocks, layers); a warp for each row. Sources and targets are disjoint.
__global__ void __launch_bounds__(1024) move_rows(KERNEL_ARGS MoveArgs a) {
    wait_for_predecessors();
    int group = a.group_of_layer[blockIdx.y];
    uint4* rows = a.device_rows + blockIdx.y * a.device_tokens * a.units;
    for (int i = blockIdx.x * num_warps() + warp_id(); i < a.count[group]; i += gridDim.x * num_warps()) {
        const uint4* from = rows + static_cast<long long>(a.source[group * a.capacity + i]) * a.units;
        uint4* to = rows + static_cast<long long>(a.target[group * a.capacity + i]) * a.units;
        for (int unit = lane_id(); unit < a.units; unit += WARP) to[unit] = from[unit];
    }
}

struct LocateArgs {
    const long long* start;
    const int *home, *rows, *lengths, *positions;
    uint4* device_rows;
    const uint4* new_rows;
    int* slots;
    int k, units;
};

// Resident mode: a block for each request; the home is the device.
__global__ void __launch_bounds__(1024) locate(KERNEL_ARGS LocateArgs a) {
    allow_successors();
    wait_for_predecessors();
    int row = a.rows[blockIdx.x], length = a.lengths[blockIdx.x];
    bool real = row >= 0 && length > 0;
    long long start = real ? a.start[row] : 0;
    long long first = static_cast<long long>(blockIdx.x) * a.k;
#pragma unroll 4
    for (int i = threadIdx.x; i < a.k; i += blockDim.x) {
        int position = real ? a.positions[first + i] : NONE;
        a.slots[first + i] = position < 0 ? NONE : a.home[start + position];
    }
    if (!real) return;
    uint4* to = a.device_rows + static_cast<long long>(a.home[start + length - 1]) * a.units;
    const uint4* from = a.new_rows + static_cast<long long>(blockIdx.x) * a.units;
    for (int unit = threadIdx.x; unit < a.units; unit += blockDim.x) to[unit] = from[unit];
}
