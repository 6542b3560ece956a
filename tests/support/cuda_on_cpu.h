// The CUDA words that our kernels use, for g++ (C++20): tests run the kernels' own source on a CPU.
//
// A block's threads are fibers of one thread, resumed in a random order between synchronisations, so that a missing
// barrier shows; blocks run one after another. Warp words take all 32 lanes (the mask is checked), atomics are plain.
#pragma once

#include <ucontext.h>

#include <bit>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define KERNEL_ARGS const
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(cuda_on_cpu::dynamic_shared[cuda_on_cpu::rank()])

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;  // fibers take turns, each turn sets threadIdx

namespace cuda_on_cpu {

constexpr int LANES = 32, MOST_THREADS = 1024, MOST_BLOCKS = 8, STACK_BYTES = 1 << 16;
alignas(16) inline char dynamic_shared[MOST_BLOCKS][1 << 18];

struct Barrier {
    int arrived = 0, generation = 0;
};
struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    bool done;
    int cluster_phase;
};

inline std::vector<Fiber> fibers;  // of a cluster's blocks, one after another
inline ucontext_t scheduler;
inline int current, cluster_size;
inline std::mt19937 order{1};
inline Barrier cluster, blocks[MOST_BLOCKS], warps[MOST_BLOCKS * MOST_THREADS / LANES];
inline bool votes[MOST_BLOCKS * MOST_THREADS];
inline long long lanes[MOST_BLOCKS * MOST_THREADS];
inline void (*body)(const void*);
inline const void* arguments;

inline int rank() { return current / static_cast<int>(blockDim.x); }
inline void yield() { swapcontext(&fibers[current].context, &scheduler); }

inline void wait_at(Barrier& barrier, int members) {
    int generation = barrier.generation;
    if (++barrier.arrived == members) {
        barrier.arrived = 0, ++barrier.generation;
    } else {
        while (barrier.generation == generation) yield();
    }
}

inline void run_body() {
    body(arguments);
    fibers[current].done = true;
    yield();
}

inline void run_cluster(unsigned first_block, unsigned y) {
    int threads = blockDim.x * cluster_size, left = threads;
    cluster = Barrier{};
    for (Barrier& block : blocks) block = Barrier{};
    for (Barrier& warp : warps) warp = Barrier{};
    if (fibers.size() < static_cast<size_t>(threads)) fibers.resize(threads);
    std::vector<int> turns(threads);
    for (int i = 0; i < threads; ++i) {
        turns[i] = i;
        Fiber& fiber = fibers[i];
        fiber.done = false, fiber.cluster_phase = 0;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK_BYTES;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, run_body, 0);
    }
    while (left) {
        for (int i = threads - 1; i > 0; --i) std::swap(turns[i], turns[order() % (i + 1)]);
        for (int turn : turns) {
            if (fibers[turn].done) continue;
            current = turn;
            threadIdx = dim3(turn % blockDim.x), blockIdx = dim3(first_block + turn / blockDim.x, y);
            swapcontext(&scheduler, &fibers[turn].context);
            left -= fibers[turn].done;
        }
    }
}

template <class Args>
struct Call {
    void (*kernel)(Args);
    const Args* args;
};

template <class Args>
void run_grid(void (*kernel)(Args), dim3 grid, int threads, const Args& args, int blocks_of_cluster) {
    Call<Args> call{kernel, &args};
    body = [](const void* p) {
        auto* c = static_cast<const Call<Args>*>(p);
        c->kernel(*c->args);
    };
    arguments = &call;
    gridDim = grid, blockDim = dim3(threads), cluster_size = blocks_of_cluster;
    for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; x += cluster_size) run_cluster(x, y);
    }
}

inline int lane() { return threadIdx.x % LANES; }
inline const long long* warp_lanes() { return lanes + current / LANES * LANES; }

// Every lane's value, for a look at them between two barriers of the warp.
template <class Look>
auto among_lanes(unsigned mask, long long value, Look look) {
    if (mask != 0xffffffffu) std::fputs("cuda_on_cpu: a warp word without all lanes\n", stderr), std::abort();
    Barrier& warp = warps[current / LANES];
    lanes[current] = value;
    wait_at(warp, LANES);
    auto result = look(warp_lanes());
    wait_at(warp, LANES);
    return result;
}

}  // namespace cuda_on_cpu

inline void __syncthreads() { cuda_on_cpu::wait_at(cuda_on_cpu::blocks[cuda_on_cpu::rank()], blockDim.x); }

inline int __syncthreads_or(int value) {
    cuda_on_cpu::votes[cuda_on_cpu::current] = value != 0;
    __syncthreads();
    bool any = false;
    for (unsigned i = 0; i < blockDim.x; ++i) any |= cuda_on_cpu::votes[cuda_on_cpu::rank() * blockDim.x + i];
    __syncthreads();
    return any;
}

inline unsigned __clusterSizeInBlocks() { return cuda_on_cpu::cluster_size; }
inline unsigned __clusterRelativeBlockRank() { return cuda_on_cpu::rank(); }
inline void* __cluster_map_shared_rank(void* shared, unsigned rank) {
    return static_cast<char*>(shared) + (static_cast<int>(rank) - cuda_on_cpu::rank()) * long(sizeof *cuda_on_cpu::dynamic_shared);
}
inline void __cluster_barrier_arrive() {
    cuda_on_cpu::Barrier& cluster = cuda_on_cpu::cluster;
    cuda_on_cpu::fibers[cuda_on_cpu::current].cluster_phase = cluster.generation;
    if (++cluster.arrived == static_cast<int>(blockDim.x) * cuda_on_cpu::cluster_size) {
        cluster.arrived = 0, ++cluster.generation;
    }
}
inline void __cluster_barrier_wait() {
    while (cuda_on_cpu::cluster.generation == cuda_on_cpu::fibers[cuda_on_cpu::current].cluster_phase) cuda_on_cpu::yield();
}

inline int __shfl_up_sync(unsigned mask, int value, int step) {
    int lane = cuda_on_cpu::lane();
    return cuda_on_cpu::among_lanes(mask, value, [=](const long long* all) {
        return static_cast<int>(lane < step ? value : all[lane - step]);
    });
}
inline int __shfl_down_sync(unsigned mask, int value, int step) {
    int lane = cuda_on_cpu::lane();
    return cuda_on_cpu::among_lanes(mask, value, [=](const long long* all) {
        return static_cast<int>(lane + step >= cuda_on_cpu::LANES ? value : all[lane + step]);
    });
}
inline int __shfl_sync(unsigned mask, int value, int from) {
    return cuda_on_cpu::among_lanes(mask, value, [=](const long long* all) { return static_cast<int>(all[from]); });
}
inline unsigned __ballot_sync(unsigned mask, int value) {
    return cuda_on_cpu::among_lanes(mask, value != 0, [](const long long* all) {
        unsigned bits = 0;
        for (int i = 0; i < cuda_on_cpu::LANES; ++i) bits |= static_cast<unsigned>(all[i]) << i;
        return bits;
    });
}
inline int __reduce_add_sync(unsigned mask, int value) {
    return cuda_on_cpu::among_lanes(mask, value, [](const long long* all) {
        int sum = 0;
        for (int i = 0; i < cuda_on_cpu::LANES; ++i) sum += static_cast<int>(all[i]);
        return sum;
    });
}
inline int __reduce_min_sync(unsigned mask, int value) {
    return cuda_on_cpu::among_lanes(mask, value, [](const long long* all) {
        int least = static_cast<int>(all[0]);
        for (int i = 1; i < cuda_on_cpu::LANES; ++i) least = all[i] < least ? static_cast<int>(all[i]) : least;
        return least;
    });
}
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

inline float __int2float_rz(int value) {  // towards zero: for numbers that are not negative
    int excess = 8 - std::countl_zero(static_cast<unsigned>(value));
    return static_cast<float>(excess > 0 ? value >> excess << excess : value);
}
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }

template <class T>
T atomicAdd(T* address, T value) {
    T old = *address;
    *address = old + value;
    return old;
}
inline int atomicCAS(int* address, int expected, int value) {
    int old = *address;
    if (old == expected) *address = value;
    return old;
}

// The runtime, as far as launching needs it.
using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1;
inline const char* cudaGetErrorString(cudaError_t) { return "invalid value"; }
