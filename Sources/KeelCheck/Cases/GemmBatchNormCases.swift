import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  /// Products and the batch norm of their columns: around the edges of tiles, of vectors of channels and of what a
  /// work-item owns, with and without both slots.
  static func gemmBatchNorm(_ dtype: DType) -> [KernelCase] {
    let shapes: [(m: Int, n: Int, k: Int)] = [
      (2, 1, 1), (2, 16, 3), (3, 17, 5), (8, 32, 8), (7, 15, 33), (9, 31, 40), (33, 33, 17), (32, 47, 65), (65, 48, 31),
      (257, 9, 12), (31, 130, 7), (256, 300, 40), (32, 64, 784),
    ]
    var cases = shapes.map { both(dtype, $0) }
    for shape in [shapes[2], shapes[4], shapes[7]] {
      let r = CaseInput("r", [shape.m, shape.n])
      cases += [
        both(dtype, shape, transposeA: true),
        both(dtype, shape, slot: (Expression(.relu), [])),
        both(dtype, shape, bias: true, slot: (Expression(.add), [r])),
      ]
    }
    return cases + [
      both(dtype, shapes[6], bias: true), both(dtype, shapes[6], slot: (Expression(.multiply), [CaseInput("s", [])])),
    ]
  }

  /// - Parameters:
  ///   - bias: the product's epilogue adds a vector.
  ///   - slot: the batch norm's epilogue, of y alone or of y and what it adds or multiplies by, and its operands.
  private static func both(
    _ dtype: DType, _ shape: (m: Int, n: Int, k: Int), transposeA: Bool = false, bias: Bool = false,
    slot: (expression: Expression, operands: [CaseInput])? = nil
  ) -> KernelCase {
    let (m, n, k) = shape
    let operands = slot?.operands ?? []
    let product = MatMul(transposeA: transposeA, epilogue: bias ? Expression(.add) : nil)
    let batchNorm = BatchNormTraining(axis: 1, epsilon: 1e-5, epilogue: slot?.expression)
    let title =
      "\(m)×\(n)×\(k) \(transposeA ? "T" : "N")N" + (bias ? " plus b" : "")
      + (slot.map { ", epilogue \($0.expression)" } ?? "")
    return KernelCase(
      GemmBatchNormProblem.family, title, dtype,
      inputs: [
        CaseInput("a", transposeA ? [k, m] : [m, k]), CaseInput("b_", [k, n]),
        CaseInput("scale", [n], .uniform(0.5...1.5)), CaseInput("shift", [n]),
      ] + (bias ? [CaseInput("b", [n])] : []) + operands, bound: Bound(eps: 1, of: .terms)
    ) { t in
      let results = t.builder.append(
        .matMulBatchNorm(MatMulBatchNorm(product, batchNorm)),
        [t["a"], t["b_"]] + (bias ? [t["b"]] : []) + [t["scale"], t["shift"]] + operands.map { t[$0.name] })
      return ["z": results[0], "y": results[1], "mean": results[2], "residual": results[3], "variance": results[4]]
    }
    .terms { t in
      func z(_ t: CaseTensors) -> Tensor {
        let z = t["a"].matMul(t["b_"], transposeA: transposeA)
        return bias ? z + t["b"] : z
      }
      // What z is off by moves mean and variance, and these y: to first order, in the formulas of the batch norm. To
      // that comes what batch norm's own kernels are allowed.
      let off = z(t.magnitudes) * (Bound.centredSum(of: 2 * k) + (bias ? 0.5 : 0))
      let statistics = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5)), [z(t), t["scale"], t["shift"]])
      func wide(_ vector: Tensor) -> Tensor { vector.channels(1, of: [m, n]) }
      let centred = (z(t) - wide(statistics[1]) - wide(statistics[2])).magnitude
      let rstd = wide((statistics[3] + 1e-5).elementwise(.reciprocalSquareRoot))
      let normalized = centred * rstd
      let moved = off + wide(off.mean(axes: [0])) + normalized * wide((normalized * off).mean(axes: [0]))
      var y = wide(t["scale"]) * (moved * rstd + (normalized + 1.0) * 4.0) + wide(t["shift"].magnitude) * 4.0
      if let operand = operands.first {
        let value = t[operand.name].magnitude
        // A product rounds once more, by half an epsilon of what it gives, which `y` exceeds.
        y = operand.shape == [] ? y * value : y + value
      }
      return [
        "z": off, "y": y, "mean": off.mean(axes: [0]) + statistics[3].elementwise(.squareRoot) * 2.0,
        "variance": (centred * off).mean(axes: [0]) * 2.0 + statistics[3] * 8.0,
      ]
    }
    .sums(["mean": ["mean", "residual"]]).fused()
  }
}
