// What the kernels share: NONE, 16-byte loads and stores, programmatic launch, block-wide sums.
// Compiled by nvcc for the GPU; tests compile the same kernels with g++ over an emulation of the CUDA words used here.
#pragma once

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define KERNEL_ARGS const __grid_constant__
#define DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]
#else
#include "cuda_on_cpu.h"
#endif

constexpr int NONE = -1;
constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Waits until everything before this kernel in its stream is done and visible; nothing may be read or written earlier.
__device__ __forceinline__ void wait_for_predecessors() {
#ifdef __CUDACC__
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel be launched (up to its own wait) as soon as every block has said so.
__device__ __forceinline__ void allow_successors() {
#ifdef __CUDACC__
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Brings a word near without using it; unlike a prefetch instruction, this load is never dropped.
__device__ __forceinline__ void touch(const int* address) {
#ifdef __CUDACC__
    [[maybe_unused]] int unused;
    asm volatile("ld.global.b32 %0, [%1];" : "=r"(unused) : "l"(address));
#else
    (void)address;
#endif
}

// 16 bytes that are read once: they need no place in L1.
__device__ __forceinline__ uint4 load_once(const uint4* address) {
#ifdef __CUDACC__
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(address));
    return v;
#else
    return *address;
#endif
}

// A team: the blocks of one cluster, which reach each other's shared memory; a block alone is a team of one.
struct Team {
    int blocks, rank, threads, thread;  // thread: this one among all of the team's

    template <bool ALONE>
    __device__ __forceinline__ static Team mine() {
        int threads = blockDim.x, thread = threadIdx.x;
        if constexpr (ALONE) return {1, 0, threads, thread};
        int blocks = __clusterSizeInBlocks(), rank = __clusterRelativeBlockRank();
        return {blocks, rank, blocks * threads, rank * threads + thread};
    }

    // A barrier in two halves: what was written before the first is visible to all after the second.
    __device__ __forceinline__ void arrive() const {
        if (blocks > 1) __cluster_barrier_arrive();
    }
    __device__ __forceinline__ void wait() const {
        if (blocks > 1) {
            __cluster_barrier_wait();
        } else {
            __syncthreads();
        }
    }
    __device__ __forceinline__ void barrier() const { arrive(), wait(); }
    __device__ __forceinline__ void wait_for_others() const {
        if (blocks > 1) __cluster_barrier_wait();
    }
};

// The other block's instance of something in shared memory.
template <class T>
__device__ __forceinline__ T* in_block(T* shared, int rank) {
    return static_cast<T*>(__cluster_map_shared_rank(shared, rank));
}

__device__ __forceinline__ int lane_id() { return threadIdx.x % WARP; }
__device__ __forceinline__ int warp_id() { return threadIdx.x / WARP; }
__device__ __forceinline__ int num_warps() { return blockDim.x / WARP; }

// Sum over the lanes below this one, and over all.
struct Sums {
    int before, total;
};

__device__ __forceinline__ int warp_inclusive_sum(int value) {
#pragma unroll
    for (int step = 1; step < WARP; step *= 2) {
        int below = __shfl_up_sync(ALL_LANES, value, step);
        if (lane_id() >= step) value += below;
    }
    return value;
}

// The block-wide sum in two halves around a barrier that the caller may share with other work. `warp_sums` is shared,
// WARP ints, and free for reuse only after another barrier.
__device__ __forceinline__ int publish_sum(int value, int* warp_sums) {
    int inclusive = warp_inclusive_sum(value);
    if (lane_id() == WARP - 1) warp_sums[warp_id()] = inclusive;
    return inclusive - value;
}

__device__ __forceinline__ Sums collect_sum(int before_in_warp, const int* warp_sums) {
    int sum = lane_id() < num_warps() ? warp_sums[lane_id()] : 0;
    int before = __reduce_add_sync(ALL_LANES, lane_id() < warp_id() ? sum : 0);
    return {before + before_in_warp, static_cast<int>(__reduce_add_sync(ALL_LANES, sum))};
}
