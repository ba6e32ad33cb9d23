import KeelCore
import KeelGraph
import KeelPrimitives

/// What is stored in 16 bits: rounded once, to nearest, from what was computed in float32.
extension KernelCases {
  static func stored(in dtype: DType) -> [KernelCase] {
    ElementwiseName.allCases.flatMap { [row(dtype, $0, 1003), special(dtype, $0)] } + fused(dtype) + broadcasts(dtype)
      + inPlace(dtype) + casts(dtype) + fusedCasts(dtype) + reductions(dtype) + storedBatchNorm(dtype)
  }

  /// From 2¹⁴ to 2¹⁵ and smaller by powers of two; from the 29th on they are subnormal in float16.
  private static func magnitudes(_ count: Int) -> CaseInput.Source {
    .indexed { index in
      var value = 1 + Double(index * 7919 % 4001) / 4001
      for _ in 0..<(index % count) { value /= 2 }
      return (index % 3 == 0 ? -16384 : 16384) * value
    }
  }

  /// Next to the middles of neighbours between 1 and 2, above and below: `distance` away.
  private static func nearTies(_ dtype: DType, _ distance: Double) -> CaseInput.Source {
    .indexed { index in
      1 + (Double(index / 2 % Int(1 / dtype.epsilon)) + 0.5) * dtype.epsilon + (index % 2 == 0 ? distance : -distance)
    }
  }

  private static func casts(_ dtype: DType) -> [KernelCase] {
    func cast(
      _ title: String, _ source: DType, _ target: DType, _ count: Int, _ values: CaseInput.Source, in run: DType,
      _ bound: Bound
    ) -> KernelCase {
      KernelCase(
        ElementwiseProblem.family, "cast \(source) to \(target) \(title)\(count)", run,
        inputs: [CaseInput("a", [count], values, dtype: source)], bound: bound
      ) { t in ["o": t["a"].cast(to: target)] }
    }
    let other: DType = dtype == .float16 ? .bfloat16 : .float16
    let nearest = Bound.stored(eps: 0, in: dtype, of: .each)
    // In epsilons of the run's float64, of which `KernelCase` allows twice as many.
    let half = dtype.epsilon / DType.float64.epsilon / 4
    return [1, 8, 1003, 5003].flatMap { count in
      [
        cast("", .float32, dtype, count, magnitudes(40), in: dtype, nearest),
        cast("", dtype, .float32, count, magnitudes(40), in: .float32, .exact),
      ]
    } + [
      cast("near ties ", .float32, dtype, 2001, nearTies(dtype, 0x1p-22), in: dtype, Bound(eps: 0.5, of: .fixed(1))),
      cast("", .int32, dtype, 1003, .integers(-256..<256), in: dtype, .exact),
      cast("", .uint8, dtype, 1003, .integers(0..<256), in: dtype, .exact),
      cast("", other, dtype, 1003, .normal, in: dtype, nearest),
      cast("", dtype, .float64, 1003, magnitudes(40), in: .float64, .exact),
      cast("", .float64, dtype, 1003, magnitudes(28), in: .float64, Bound(eps: half, of: .each)),
      cast(
        "near ties ", .float64, dtype, 2001, nearTies(dtype, 0x1p-40), in: .float64, Bound(eps: half, of: .fixed(1))),
    ]
  }

  /// Operands and result of several types in one launch; operands that broadcast, vectors or one by one.
  private static func fusedCasts(_ dtype: DType) -> [KernelCase] {
    let shapes: [(x: Shape, b: Shape)] = [
      ([1], [1]), ([7], [7]), ([4105], [4105]), ([33, 16], [16]), ([33, 17], [17]), ([33, 16], [33, 1]),
      ([33, 17], [33, 1]), ([13, 9], []), ([5, 7, 16], [1, 7, 1]),
    ]
    return shapes.flatMap { x, b in
      [(dtype, DType.float32), (.float32, dtype)].flatMap { first, second in
        [dtype, .float32].map { result in
          KernelCase(
            ElementwiseProblem.family, "\(first)\(x) and \(second)\(b) to \(result)",
            result == dtype ? dtype : .float32,
            inputs: [CaseInput("x", x, dtype: first), CaseInput("b", b, dtype: second)],
            bound: .stored(eps: 1, in: result, of: .terms)
          ) { t in
            let (x, b) = (t["x"].cast(to: .float32), t["b"].cast(to: .float32))
            return ["o": (x * b + x).cast(to: result)]
          }
          .terms { t in
            let (x, b) = (t["x"].cast(to: .float32), t["b"].cast(to: .float32))
            return ["o": (x * b).magnitude + x.magnitude]
          }.fused()
        }
      }
    }
  }

  private static func reductions(_ dtype: DType) -> [KernelCase] {
    let shapes: [(shape: Shape, axis: Int)] = [
      ([3, 5, 7], 0), ([3, 5, 7], 1), ([3, 5, 7], 2), ([16, 17, 33], 1), ([33, 33], 1), ([17, 2049], 1), ([65, 8], 0),
      ([129, 17], 0), ([100_003], 0), ([2, 20_000, 3], 1),
    ]
    return shapes.flatMap { shape, axis in
      [
        KernelCase(
          ReductionProblem.family, "sum of \(shape) over [\(axis)]", dtype, inputs: [CaseInput("x", shape)],
          bound: .stored(eps: Bound.centredSum(of: shape[axis], block: 64), in: dtype, of: .terms)
        ) { t in
          ["y": t["x"].sum(axes: [axis])]
        }
        .terms { t in ["y": t["x"].magnitude.sum(axes: [axis])] },
        KernelCase(
          ReductionProblem.family, "max of \(shape) over [\(axis)]", dtype, inputs: [CaseInput("x", shape)],
          bound: .exact
        ) { t in ["y": t["x"].max(axes: [axis])] },
      ]
    }
  }
}
