import Foundation
import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  static func elementwise(_ dtype: DType) -> [KernelCase] {
    // One block of eight and a rest; several blocks of work and a rest.
    ElementwiseName.allCases.flatMap { name in [1, 8, 1003, 5003].map { row(dtype, name, $0) } + [special(dtype, name)]
    }
      + ranges(dtype) + zeros(dtype) + fused(dtype) + broadcasts(dtype) + conversions(dtype) + inPlace(dtype)
  }

  /// What OpenCL allows the functions of the table: 5 ulp for tanh, less for each of the others and for what follows it.
  private static func function(_ dtype: DType) -> Bound { .stored(eps: 8, in: dtype, of: .each) }

  /// A row of the table on its domain.
  static func row(_ dtype: DType, _ name: ElementwiseName, _ count: Int) -> KernelCase {
    let domains = name.row.domain
    let inputs = domains.enumerated().map { CaseInput("x\($0.offset)", [count], .uniform($0.element)) }
    return KernelCase(
      ElementwiseProblem.family, "\(name.rawValue) \(count)", dtype, inputs: inputs, bound: function(dtype)
    ) { t in
      ["y": t.builder.append(.elementwise(Elementwise(name)), inputs.map { t[$0.name] })[0]]
    }
  }

  /// The functions of math.clh at numbers of all sizes, as exact as it says; of double precision as OpenCL asks.
  private static func ranges(_ dtype: DType) -> [KernelCase] {
    let isSingle = dtype == .float32
    /// Numbers on both sides of 0, or below it, their magnitudes evenly spread over the digits.
    func spread(
      _ name: ElementwiseName, _ range: ClosedRange<Double>, eps: Double, negative: Bool = false
    ) -> KernelCase {
      let count = 4099
      let inputs = name.row.domain.indices.map { operand in
        CaseInput(
          "x\(operand)", [count],
          .indexed {
            let share = Double($0 / 2) / Double(count / 2)
            let magnitude = range.lowerBound * pow(range.upperBound / range.lowerBound, share)
            return operand > 0 ? 1 : negative || $0 % 2 == 0 ? -magnitude : magnitude
          })
      }
      return KernelCase(
        ElementwiseProblem.family,
        "\(name.rawValue) of \(range.lowerBound) to \(range.upperBound)\(negative ? ", negative" : "")",
        dtype,
        inputs: inputs, bound: Bound(eps: isSingle ? eps : 8, of: .each)
      ) { t in
        ["y": t.builder.append(.elementwise(Elementwise(name)), inputs.map { t[$0.name] })[0]]
      }
    }
    // Operands are normal numbers: a device need not know others. A sigmoid adds 1 and divides.
    return [
      spread(.exp, 1e-30...88.7, eps: 1), spread(.exp, 80...1e30, eps: 1, negative: true),
      spread(.elu, 1e-37...1e30, eps: 2), spread(.log, 1.2e-38...1e38, eps: 1), spread(.log, 0.5...2, eps: 1),
      spread(.tanh, 1e-37...1e30, eps: 3),
      spread(.sigmoid, 1e-30...87, eps: 2.5),
    ]
  }

  /// Functions that keep the sign of 0, as its reciprocal shows.
  private static func zeros(_ dtype: DType) -> [KernelCase] {
    let functions: [(name: String, of: @Sendable (Tensor) -> Tensor)] = [
      ("elu", { $0.elementwise(.elu, 1.0) }), ("tanh", { $0.elementwise(.tanh) }),
    ]
    return functions.map { function in
      KernelCase(
        ElementwiseProblem.family, "1 / \(function.name) of zeros", dtype,
        inputs: [CaseInput("x", [67], .values([-0.0, 0, -1, 1]))], bound: self.function(dtype)
      ) { t in
        ["y": function.of(t["x"]).elementwise(.reciprocal)]
      }
    }
  }

  /// NaN, infinities, zeros of both signs and equal operands, in all combinations.
  static func special(_ dtype: DType, _ name: ElementwiseName) -> KernelCase {
    let values: [Double] = [.nan, .infinity, -.infinity, 0, -0.0, 1, -1, 2]
    let arity = name.row.arity
    var count = 1
    for _ in 0..<arity { count *= values.count }
    let inputs = (0..<arity).map { operand in
      CaseInput("x\(operand)", [count], .indexed { values[$0 >> (3 * operand) & 7] })
    }
    return KernelCase(
      ElementwiseProblem.family, "\(name.rawValue) special values", dtype, inputs: inputs, bound: function(dtype)
    ) { t in
      ["y": t.builder.append(.elementwise(Elementwise(name)), inputs.map { t[$0.name] })[0]]
    }
  }

  static func fused(_ dtype: DType) -> [KernelCase] {
    [7, 1000, 4105].map { count in
      KernelCase(
        ElementwiseProblem.family, "fused chain \(count)", dtype,
        inputs: ["x", "y", "z"].map { CaseInput($0, [count]) }, bound: .stored(eps: 13, in: dtype, times: 2, of: .terms)
      ) { t in
        let (x, y, z) = (t["x"], t["y"], t["z"])
        let gate = (x * y + z).elementwise(.sigmoid)
        return ["o": gate * y.elementwise(.tanh) + (x - z).elementwise(.square) * 0.125 + gate]
      }
      .terms { t in
        let (x, y, z) = (t["x"], t["y"], t["z"])
        // The gate is off by 6 epsilons of itself (exp, a sum, a division), and by its argument's error times a slope
        // that is less than the gate; its product with tanh by 6 more.
        let gate = (x * y + z).elementwise(.sigmoid)
        let factor = y.elementwise(.tanh).magnitude + (x * y).magnitude + z.magnitude + 1.0
        return ["o": gate * factor + (x - z).elementwise(.square) * 0.125]
      }
    }
  }

  /// Shapes of two operands and what they stretch: rows, columns, middle axes, scalars, both at once; the innermost
  /// extent a multiple of eight (vectors) or not (one by one).
  private static let broadcastShapes: [(title: String, a: Shape, b: Shape)] = [
    ("row", [33, 16], [16]), ("row", [33, 17], [17]), ("row [1, C]", [9, 24], [1, 24]), ("column", [33, 16], [33, 1]),
    ("column", [33, 17], [33, 1]), ("middle", [5, 7, 16], [1, 7, 1]), ("middle", [5, 7, 9], [1, 7, 1]),
    ("middle of four", [2, 3, 4, 8], [3, 1, 1]), ("scalar", [100], []), ("scalar [1, 1]", [13, 9], [1, 1]),
    ("both", [33, 1], [1, 16]), ("both", [33, 1], [1, 15]), ("every second axis", [2, 1, 3, 1], [1, 5, 1, 7]),
    ("every second axis", [2, 1, 3, 1], [1, 5, 1, 8]), ("outer", [3, 8, 5], [8, 5]), ("outer", [3, 5, 7], [1, 5, 7]),
    ("inner two", [6, 4, 8], [6, 1, 1]), ("large row", [700, 24], [24]), ("large column", [700, 9], [700, 1]),
  ]

  static func broadcasts(_ dtype: DType) -> [KernelCase] {
    broadcastShapes.map { title, a, b in
      KernelCase(
        ElementwiseProblem.family, "broadcast \(title) \(a) \(b)", dtype,
        inputs: [CaseInput("a", a), CaseInput("b", b)], bound: .stored(eps: 1, in: dtype, of: .terms)
      ) { t in
        ["o": t["a"] - t["b"] * t["a"]]
      }
      .terms { t in ["o": t["a"].magnitude + (t["b"] * t["a"]).magnitude] }
    }
      + [([3, 1, 5], [2, 3, 4, 5]), ([8], [6, 8]), ([7, 1], [7, 9])].map { (shape: Shape, target: Shape) in
        KernelCase(
          ElementwiseProblem.family, "broadcast \(shape) to \(target)", dtype, inputs: [CaseInput("a", shape)],
          bound: .exact
        ) { t in ["o": t["a"].broadcast(to: target)] }
      }
  }

  private static func conversions(_ dtype: DType) -> [KernelCase] {
    let sources: [DType] = [.int32, .uint8] + (dtype == .float64 ? [.float32] : [])
    var cases = sources.map { source in
      KernelCase(
        ElementwiseProblem.family, "cast from \(source)", dtype,
        inputs: [CaseInput("a", [1003], .integers(0..<256), dtype: source)], bound: .exact
      ) { t in ["o": t["a"].cast(to: dtype)] }
    }
    if dtype == .float32 {
      cases += [9, 4105].map { count in
        KernelCase(
          ElementwiseProblem.family, "i32 add \(count)", dtype,
          inputs: ["a", "b"].map { CaseInput($0, [count], .integers(-1_000_000..<1_000_000), dtype: .int32) },
          bound: .exact
        ) { t in ["o": t["a"] + t["b"]] }
      }
      cases.append(
        KernelCase(
          ElementwiseProblem.family, "cursor advances", dtype, inputs: [.cursor(sample: 32, stepInEpoch: 4, step: 9)],
          bound: .exact
        ) { t in
          t.builder.update(t["cursor"], with: t["cursor"] + t.builder.constant([32, 1, 1], [3], .int32))
          return [:]
        })
    }
    return cases
  }

  /// A variable that takes a value computed from itself: in place where it is the last reader, by a copy where not.
  static func inPlace(_ dtype: DType) -> [KernelCase] {
    [13, 5003].flatMap { count in
      [
        KernelCase(
          ElementwiseProblem.family, "in place \(count)", dtype,
          inputs: [CaseInput("v", [count], role: .control), CaseInput("x", [count])],
          bound: .stored(eps: 1, in: dtype, of: .terms)
        ) { t in
          t.builder.update(t["v"], with: t["v"] * 0.5 + t["x"])
          return [:]
        }
        .terms { t in ["v": t["v"].magnitude * 0.5 + t["x"].magnitude] },
        KernelCase(
          ElementwiseProblem.family, "by copy \(count)", dtype,
          inputs: [CaseInput("v", [count], role: .control), CaseInput("x", [count])],
          bound: .stored(eps: 1, in: dtype, times: 2, of: .terms)
        ) { t in
          let new = t["v"] * 0.5 + t["x"]
          t.builder.update(t["v"], with: new)
          return ["after": new.reshape([1, count]).sum(axes: [0]) * t["v"]]
        }
        .terms { t in
          let new = t["v"].magnitude * 0.5 + t["x"].magnitude
          return ["v": new, "after": new * t["v"].magnitude]
        },
      ]
    }
  }
}
