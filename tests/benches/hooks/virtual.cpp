// What one virtual call costs in C++, in nanoseconds: a plugin's method behind a library's boundary, as libtorrent calls it.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

struct plugin {
    virtual ~plugin() = default;
    virtual bool on_have(std::uint32_t) { return false; }
};

struct counting final : plugin {
    std::uint64_t calls = 0;
    bool on_have(std::uint32_t) override { calls += 1; return false; }
};

__attribute__((noinline)) plugin* make() { return new counting; }

int main(int, char** argv) {
    std::uint32_t const times = std::uint32_t(std::atol(argv[1]));
    std::vector<plugin*> chain{make()};
    bool handled = false;
    auto const start = std::chrono::steady_clock::now();
    for (std::uint32_t i = 0; i < times; ++i) {
        // The compiler must not see which method it is.
        asm volatile("" : "+m"(chain[0]) : : "memory");
        for (plugin* p : chain) handled |= p->on_have(i);
    }
    auto const took = std::chrono::steady_clock::now() - start;
    if (handled) return 1;
    std::printf("%f\n", double(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count()) / times);
}
