import Foundation
import KeelCL
import KeelKernels
import Testing

@testable import KeelPrimitives

@Suite struct KernelTextTests {
  @Test func kernelsBecomeFunctions() {
    let part = KernelText(
      """
      #define WIDTH 8
        #  define INNER(a) (a)
      typedef struct {
        float x;
      } Pair;
      static inline float twice(float x) { return 2 * x; }
      MAKE_SUM(sum_of_lanes, 8)
      static const float factors[] = {one(1)};
      KEEL_CPU __kernel void scale_rows(
          __global float* out) {
        // __kernel void of a comment
      }
      __kernel void scale(__global float* out) {
      }
      """)
    #expect(part.names == ["Pair", "twice", "sum_of_lanes", "scale_rows", "scale"])
    #expect(part.macros == ["WIDTH", "INNER"])
    #expect(part.text.contains("static KEEL_APART void scale_rows(size_t keel_x, "))
    #expect(part.text.contains("size_t keel_nz, __global float* out) {"))
    #expect(part.text.contains("// __kernel void of a comment"))
  }

  /// What is defined at the beginning of a line, by regular expressions: slow, and easy to read.
  private func expected(_ text: String) -> (names: Set<String>, macros: Set<String>) {
    let names = text.matches(
      of: /(?m)^(?:(?:static|KEEL_INLINE)\s[^;={(]*?(\w+)\(|[A-Z][A-Z0-9_]*\(([a-z]\w*),|}\s*(\w+);)/
    ).compactMap { ($0.1 ?? $0.2 ?? $0.3).map { String($0) } }
    return (Set(names), Set(text.matches(of: /(?m)^\s*#\s*define\s+(\w+)/).map { String($0.1) }))
  }

  @Test func everyKernelFileGivesItsNames() throws {
    for file in KernelSource.names where file.hasSuffix(".cl") {
      let text = try KernelSource(directory: nil).resolved(file)
      let part = KernelText(text)
      let expected = expected(part.text)
      #expect(part.names == expected.names, "\(file)")
      #expect(part.macros == expected.macros, "\(file)")
      #expect(!part.text.contains(/(?m)^(KEEL_CPU )?__kernel/), "\(file)")
    }
  }

  @Test func kernelsOfOneItemAreCalledByOneThatDoesNothingElse() throws {
    let context = try ComputeContext(Device.best(), environment: ["KEEL_CACHE_DIR": ""])
    func launch(_ kernel: String, _ arguments: [KernelArgument]) throws -> BoundLaunch {
      try context.bind(
        kernel, of: ProgramSpec("x.cl", .float32), arguments, global: [1], isSingleItem: true, label: "")
    }
    let buffer = KernelArgument.buffer(try context.buffer(byteCount: 4))
    let text = """
      KEEL_CPU __kernel void fill(__global REAL* to, REAL value, int n, long first) {
      }
      __kernel void each(__global REAL* to) {
      }
      """
    let apart = try #require(KernelText.apart(launch("fill", [buffer, .real(1), .int(1), .long(0)]), text))
    #expect(apart.contains("__kernel void fill(__global uchar* a0, float a1, int a2, long a3) {"))
    #expect(apart.contains("fill_part0(get_global_id(0), get_global_id(1), get_global_id(2), get_global_size(0), "))
    #expect(apart.contains("(__global void*)a0, a1, a2, a3);"))
    #expect(try KernelText.apart(launch("each", [buffer]), text) == nil)
    #expect(try KernelText.apart(launch("fill", [buffer]), text + "__local float shared[4];") == nil)
  }

  /// What stands behind such a guard is there for the first part alone, so a name of its own would be missing in others.
  @Test func nothingBehindAGuardHasANameOfAPart() throws {
    for file in KernelSource.names where file.hasSuffix(".cl") {
      let text = try KernelSource(directory: nil).resolved(file)
      let names = KernelText(text).names
      var (depth, guarded) = (0, Int.max)
      for line in text.split(separator: "\n") {
        if line.hasPrefix("#if") {
          depth += 1
          if line.hasPrefix("#ifndef KEEL_ONCE_") { guarded = min(guarded, depth) }
        } else if line.hasPrefix("#endif") {
          if depth == guarded { guarded = .max }
          depth -= 1
        } else if depth >= guarded {
          let part = KernelText(String(line)).names
          #expect(part.isDisjoint(with: names), "\(file): \(line)")
        }
      }
    }
  }

  @Test func wordsAreFoundWhereverTheyStand() {
    #expect(KernelText.has(anyOf: ["barrier(", "__local "], in: "x; barrier(1);"))
    #expect(KernelText.has(anyOf: ["__local "], in: "__local "))
    #expect(!KernelText.has(anyOf: ["barrier(", "__local "], in: "__local"))
    #expect(!KernelText.has(anyOf: ["barrier("], in: ""))
  }
}
