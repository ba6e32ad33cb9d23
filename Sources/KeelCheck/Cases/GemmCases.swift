import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  /// Ones, primes, the edges of the tiles (6 or 8 rows, 8, 16 or 32 columns), of packed rows (96, 168) and of chunks of K
  /// (256, 384, 512 and 1024, more than two of them too), and shapes of real layers.
  private static let gemmShapes: [(m: Int, n: Int, k: Int)] = [
    (1, 1, 1), (1, 17, 33), (33, 1, 7), (5, 17, 7), (6, 16, 16), (7, 15, 31), (8, 32, 8), (9, 33, 6), (17, 6, 33),
    (31, 7, 15), (33, 5, 17), (16, 48, 1), (24, 31, 2), (5, 6, 255), (7, 33, 257), (8, 64, 511), (16, 17, 512),
    (6, 47, 513), (9, 65, 1031), (32, 32, 784), (784, 32, 32), (169, 49, 385), (97, 33, 521), (3, 16, 16), (3, 15, 17),
    (11, 31, 47), (521, 31, 67), (7, 33, 1024), (9, 65, 2051),
  ]

  static func gemm(_ dtype: DType) -> [KernelCase] {
    var cases: [KernelCase] = []
    for (transposeA, transposeB) in [(false, false), (false, true), (true, false), (true, true)] {
      for shape in gemmShapes {
        cases.append(product(dtype, shape, transposeA, transposeB))
      }
    }
    // One that is large in every direction; the reference takes its time.
    cases.append(product(dtype, (129, 257, 300), false, false))
    // Rows of more than one work-item, each of which packs its panels, chunk after chunk.
    for transposeB in [false, true] { cases.append(product(dtype, (259, 35, 1031), false, transposeB)) }
    for shape in [
      (m: 7, n: 17, k: 257), (m: 7, n: 17, k: 1031), (m: 16, n: 32, k: 40), (m: 1, n: 5, k: 3), (m: 13, n: 13, k: 13),
    ] {
      // Each epilogue is a program, and this kernel compiles slowest of all: double precision takes two of them.
      let isDouble = dtype == .float64
      for (transposeA, transposeB) in [(false, false)] + (isDouble ? [] : [(false, true), (true, false)]) {
        cases.append(
          product(dtype, shape, transposeA, transposeB, "bias relu", [("b", [shape.n])]) { z, t in
            (z + t["b"]).elementwise(.relu)
          } terms: { z, t in
            z + t["b"].magnitude
          })
      }
      cases.append(
        product(
          dtype, shape, true, true, "bias, ELU, scaled residual",
          [("b", [shape.n]), ("r", [shape.m, shape.n]), ("s", [])]
        ) { z, t in
          (z * 0.25 + t["b"]).elementwise(.elu, 1.0) * t["s"] + t["r"] * 0.5
        } terms: { z, t in
          (z * 0.25 + t["b"].magnitude) * t["s"].magnitude + t["r"].magnitude * 0.5
        })
      if isDouble { continue }
      cases.append(
        product(dtype, shape, false, false, "residual", [("r", [shape.m, shape.n])]) { z, t in
          z + t["r"]
        } terms: { z, t in
          z + t["r"].magnitude
        })
      cases.append(
        product(dtype, shape, false, false, "column of M", [("c", [shape.m, 1])]) { z, t in
          z * t["c"]
        } terms: { z, t in
          z * t["c"].magnitude
        })
      cases.append(
        product(dtype, shape, false, false, "row [1, N]", [("b", [1, shape.n])]) { z, t in
          t["b"] - z
        } terms: { z, t in
          z + t["b"].magnitude
        })
      cases.append(
        product(dtype, shape, false, true, "scalar operand", [("s", [1])]) { z, t in
          z * t["s"]
        } terms: { z, t in
          z * t["s"].magnitude
        })
    }
    return cases
  }

  /// - Parameters:
  ///   - epilogue: must become part of the product's launch.
  ///   - terms: of the epilogue's result, from those of the product; relu and ELU do not stretch any difference.
  private static func product(
    _ dtype: DType, _ shape: (m: Int, n: Int, k: Int), _ transposeA: Bool, _ transposeB: Bool, _ title: String = "",
    _ operands: [(String, Shape)] = [], epilogue: (@Sendable (Tensor, CaseTensors) -> Tensor)? = nil,
    terms: (@Sendable (Tensor, CaseTensors) -> Tensor)? = nil
  ) -> KernelCase {
    let (m, n, k) = shape
    let label = "\(m)×\(n)×\(k) \(transposeA ? "T" : "N")\(transposeB ? "T" : "N")" + (title.isEmpty ? "" : " \(title)")
    // Each product and each addition is rounded, or both at once; what is fused behind them adds nine roundings at most:
    // three of factors and sums, and six of expm1 (3 ulp).
    return KernelCase(
      GemmProblem.family, label, dtype,
      inputs: [
        CaseInput("a", transposeA ? [k, m] : [m, k]), CaseInput("b_", transposeB ? [n, k] : [k, n]),
      ] + operands.map { CaseInput($0.0, $0.1) },
      bound: Bound(eps: Bound.centredSum(of: 2 * k) + (epilogue == nil ? 0 : 4.5), of: .terms)
    ) { t in
      let z = t["a"].matMul(t["b_"], transposeA: transposeA, transposeB: transposeB)
      return ["c": epilogue?(z, t) ?? z]
    }
    .terms { t in
      let z = t["a"].magnitude.matMul(t["b_"].magnitude, transposeA: transposeA, transposeB: transposeB)
      return ["c": terms?(z, t) ?? z]
    }.fused()
  }
}
