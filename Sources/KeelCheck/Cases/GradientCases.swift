import KeelCore
import KeelGraph

/// Every differentiable operation, for ``GradientCheck``.
public enum GradientCases {
  public static let all: [GradientCase] = elementwise + movement + products + batchNorm + losses

  /// Each row of the elementwise table on its domain, on shapes that broadcast, and where an operand stands twice.
  static let elementwise: [GradientCase] =
    ElementwiseName.allCases.flatMap { name in
      let domains = name.row.domain
      func inputs(_ shapes: [Shape]) -> [CaseInput] {
        domains.enumerated().map { CaseInput("x\($0.offset)", shapes[$0.offset], .uniform($0.element)) }
      }
      func loss(_ inputs: [CaseInput]) -> @Sendable (CaseTensors) -> Tensor {
        { t in t.builder.append(.elementwise(Elementwise(name)), inputs.map { t[$0.name] })[0].weightedSum() }
      }
      let same = inputs([[5, 7], [5, 7], [5, 7]])
      var cases = [GradientCase(name.rawValue, inputs: same, loss: loss(same))]
      if domains.count > 1 {
        let stretched = inputs([[5, 1], [7], [3, 5, 7]])
        cases.append(GradientCase("\(name.rawValue) broadcast", inputs: stretched, loss: loss(stretched)))
        cases.append(
          GradientCase("\(name.rawValue) of one tensor", inputs: [CaseInput("x", [11], .uniform(0.5...1))]) { t in
            t.builder.append(.elementwise(Elementwise(name)), domains.map { _ in t["x"] })[0].weightedSum()
          })
      }
      return cases
    }
    // Both sides of the kinks.
    + [
      ("absolute", -2 ... -0.1), ("relu", -2 ... -0.1), ("elu", 0.1...2),
    ].map { (title: String, range: ClosedRange<Double>) in
      GradientCase("\(title) on \(range)", inputs: [CaseInput("x", [17], .uniform(range))]) { t in
        guard let name = ElementwiseName(rawValue: title) else { return t["x"].sum() }
        return (name == .elu ? t["x"].elementwise(name, 0.7) : t["x"].elementwise(name)).weightedSum()
      }
    }

  static let movement: [GradientCase] = [
    GradientCase("reshape", inputs: [CaseInput("x", [4, 6])]) { t in t["x"].reshape([3, 8]).weightedSum() },
    GradientCase("transpose 2-D", inputs: [CaseInput("x", [4, 6])]) { t in t["x"].transpose([1, 0]).weightedSum() },
    GradientCase("transpose 4-D", inputs: [CaseInput("x", [2, 3, 4, 5])]) { t in
      t["x"].transpose([0, 2, 3, 1]).weightedSum()
    },
    GradientCase("transpose 3-D, not its own inverse", inputs: [CaseInput("x", [2, 3, 4])]) { t in
      t["x"].transpose([2, 0, 1]).weightedSum()
    },
    GradientCase("broadcast", inputs: [CaseInput("x", [3, 1, 5])]) { t in
      t["x"].broadcast(to: [2, 3, 4, 5]).weightedSum()
    },
    GradientCase("sum over the outer axis", inputs: [CaseInput("x", [4, 6])]) { t in
      t["x"].sum(axes: [0]).elementwise(.square).weightedSum()
    },
    GradientCase("sum over the middle axis", inputs: [CaseInput("x", [3, 4, 6])]) { t in
      t["x"].sum(axes: [1]).elementwise(.square).weightedSum()
    },
    GradientCase("sum over outer and inner axes", inputs: [CaseInput("x", [3, 4, 6])]) { t in
      t["x"].sum(axes: [0, 2], keepingDimensions: true).elementwise(.square).weightedSum()
    },
    GradientCase("mean", inputs: [CaseInput("x", [4, 6])]) { t in t["x"].elementwise(.square).mean() },
    GradientCase("max", inputs: [CaseInput("x", [9, 33])]) { t in t["x"].max(axes: [1]).weightedSum() },
  ]

  static let products: [GradientCase] = [(false, false), (false, true), (true, false), (true, true)].flatMap {
    (transposeA: Bool, transposeB: Bool) -> [GradientCase] in
    let label = "matMul \(transposeA ? "T" : "N")\(transposeB ? "T" : "N")"
    let inputs = [
      CaseInput("a", transposeA ? [19, 7] : [7, 19]), CaseInput("b", transposeB ? [17, 19] : [19, 17]),
    ]
    return [
      GradientCase(label, inputs: inputs) { t in
        t["a"].matMul(t["b"], transposeA: transposeA, transposeB: transposeB).weightedSum()
      },
      GradientCase(
        label + ", bias, tanh, residual", inputs: inputs + [CaseInput("bias", [17]), CaseInput("r", [7, 17])]
      ) {
        t in
        let z = t["a"].matMul(t["b"], transposeA: transposeA, transposeB: transposeB) * 0.2
        return ((z + t["bias"]).elementwise(.tanh) + t["r"] * t["r"]).weightedSum()
      },
    ]
  }

  /// The whole way round: y, and mean and variance where a loss uses them.
  static let batchNorm: [GradientCase] = [
    ([33, 9], 1), ([2, 5], 1), ([5, 3, 20], 1), ([3, 4, 5, 2], 3), ([3, 4, 5, 2], 1), ([9, 40], 0), ([1100, 3], 1),
  ].flatMap { (shape: Shape, axis: Int) -> [GradientCase] in
    let channels: Shape = [shape[axis]]
    let inputs = [
      CaseInput("x", shape, .normal(offset: 3, scale: 2)), CaseInput("scale", channels), CaseInput("shift", channels),
    ]
    @Sendable func normalize(_ t: CaseTensors) -> [Tensor] {
      // A large epsilon: with two values a channel the function is a step, and no difference quotient follows it.
      t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 0.1)), [t["x"], t["scale"], t["shift"]])
    }
    let label = "batchNorm \(shape) axis \(axis)"
    return [
      GradientCase(label, inputs: inputs) { t in normalize(t)[0].weightedSum() },
      GradientCase(label + ", tanh", inputs: inputs) { t in normalize(t)[0].elementwise(.tanh).weightedSum() },
      GradientCase(label + ", mean and variance", inputs: inputs) { t in
        let results = normalize(t)
        return results[0].elementwise(.square).weightedSum() + results[1].weightedSum(seed: 8)
          + results[3].weightedSum(seed: 9)
      },
    ]
  }

  static let losses: [GradientCase] =
    [(7, 10), (33, 3), (5, 65)].map { (rows: Int, classes: Int) in
      GradientCase(
        "softmaxCrossEntropy \(rows)×\(classes)",
        inputs: [
          CaseInput("x", [rows, classes], .normal(offset: 0, scale: 2)),
          CaseInput("labels", [rows], .integers(0..<classes), dtype: .int32),
        ]
      ) { t in t.builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [t["x"], t["labels"]])[0].weightedSum() }
    } + [
      GradientCase("mean squared error", inputs: [CaseInput("x", [9, 5]), CaseInput("target", [9, 5])]) { t in
        (t["x"] - t["target"]).elementwise(.square).mean()
      },
      GradientCase(
        "two layers with batch norm and ELU",
        inputs: [
          CaseInput("x", [13, 11]), CaseInput("w1", [11, 9]), CaseInput("scale", [9]), CaseInput("shift", [9]),
          CaseInput("w2", [9, 4]), CaseInput("b2", [4]), CaseInput("labels", [13], .integers(0..<4), dtype: .int32),
        ]
      ) { t in
        let normalized = t.builder.append(
          .batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5)),
          [t["x"].matMul(t["w1"]), t["scale"], t["shift"]])[0]
        let logits = normalized.elementwise(.elu, 1.0).matMul(t["w2"]) + t["b2"]
        return t.builder.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [logits, t["labels"]])[0].mean()
      },
    ]
}
