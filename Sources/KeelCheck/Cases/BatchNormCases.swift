import KeelCore
import KeelGraph
import KeelPrimitives

/// x of a batch norm case: where its channels are and how they are distributed.
private struct Layout {
  var shape: Shape
  var axis: Int
  var offset = 0.0
  var deviation = 1.0

  var channels: Int { shape[axis] }
  var values: Int { shape.count / channels }
  var label: String {
    "\(shape) axis \(axis)" + (offset == 0 && deviation == 1 ? "" : ", mean \(Int(offset)), deviation \(deviation)")
  }
  var x: CaseInput { CaseInput("x", shape, .normal(offset: offset, scale: deviation)) }
  var inputs: [CaseInput] {
    [x, CaseInput("scale", [channels], .uniform(0.5...1.5)), CaseInput("shift", [channels])]
  }
}

extension KernelCases {
  private static let layouts: [Layout] =
    // [rows, C]: lanes of eight and their rests, slices of 1024 values and their rests.
    [
      (257, 1), (257, 3), (257, 8), (257, 9), (33, 64), (5, 4097), (2, 9), (3, 17), (32, 32), (1025, 8), (5000, 3),
      (4097, 1),
    ].map { Layout(shape: [$0.0, $0.1], axis: 1) }
    + [
      Layout(shape: [7, 5, 9], axis: 2), Layout(shape: [7, 9, 5], axis: 1), Layout(shape: [7, 9, 16], axis: 1),
      Layout(shape: [3, 5, 6, 7], axis: 1), Layout(shape: [3, 6, 7, 5], axis: 3), Layout(shape: [9, 40], axis: 0),
      Layout(shape: [2, 3, 2, 3, 5], axis: 1), Layout(shape: [1, 3, 61, 43], axis: 1),
      Layout(shape: [1, 1, 3001], axis: 1),
      Layout(shape: [600, 2, 3], axis: 1),
    ]

  /// Means far above the deviation, in each layout: the table of `batchnorm.md`.
  private static let offsets: [Layout] = [([256, 16], 1), ([4, 16, 8, 8], 1), ([4, 8, 8, 16], 3)].flatMap {
    shape, axis in
    [(100, 1), (1e4, 1), (1e4, 0.01), (1e6, 1)].map { (offset: Double, deviation: Double) in
      Layout(shape: shape, axis: axis, offset: offset, deviation: deviation)
    }
  }

  static func batchNorm(_ dtype: DType) -> [KernelCase] {
    var cases: [KernelCase] = []
    for layout in layouts + offsets {
      cases.append(forward(dtype, layout))
      cases.append(backward(dtype, layout))
    }
    for shape: (Shape, Int) in [([33, 9], 1), ([5000, 3], 1), ([5, 3, 20], 1), ([4, 3, 5], 1)] {
      let layout = Layout(shape: shape.0, axis: shape.1)
      cases.append(
        forward(dtype, layout, "relu(y + residual)·s", [CaseInput("r", layout.shape), CaseInput("s", [])]) { y, t in
          (y + t["r"]).elementwise(.relu) * t["s"]
        })
      cases.append(forward(dtype, layout, "elu", []) { y, _ in y.elementwise(.elu, 1.0) })
      // The gradient of a ReLU in front of the reductions, and one of a product with a scalar.
      cases.append(
        backward(dtype, layout, "relu gradient", [CaseInput("m", layout.shape)]) { dy, t in
          t["m"].elementwise(.greater, 0.0).elementwise(.select, dy, 0.0)
        })
      cases.append(backward(dtype, layout, "scaled", [CaseInput("s", [1])]) { dy, t in dy * t["s"] * 0.5 })
    }
    cases += constantChannels(dtype) + [1, 8, 9, 64, 4097].map { running(dtype, $0, .fixed(0.1)) }
    cases += [running(dtype, 17, .cumulative), running(dtype, 17, .fixed(1))]
    cases += [1, .nan].map { running(dtype, 9, .fixed(0.1), asked: $0) }
    return cases
  }

  private static func forward(
    _ dtype: DType, _ layout: Layout, _ title: String? = nil, _ operands: [CaseInput] = [],
    epilogue: (@Sendable (Tensor, CaseTensors) -> Tensor)? = nil
  ) -> KernelCase {
    let (axis, shape) = (layout.axis, layout.shape)
    return KernelCase(
      BatchNormForwardProblem.family, layout.label + (title.map { ", \($0)" } ?? ""), dtype,
      inputs: layout.inputs + operands,
      bound: Bound(eps: 4, of: .terms)
    ) { t in
      let results = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5)), [t["x"], t["scale"], t["shift"]])
      return [
        "y": epilogue?(results[0], t) ?? results[0], "mean": results[1], "residual": results[2], "variance": results[3],
      ]
    }
    .bounds([
      "mean": Bound(eps: 2, of: .fixed(layout.deviation)), "variance": Bound(eps: 8, of: .each),
    ])
    .terms { t in
      let statistics = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5)), [t["x"], t["scale"], t["shift"]])
      let normalized = normalized(t["x"], statistics, axis) + 1.0
      let y = normalized * t["scale"].channels(axis, of: shape) + t["shift"].magnitude.channels(axis, of: shape)
      // Of these epilogues: what they add is added, and no difference is stretched.
      return ["y": epilogue?(y, t.magnitudes) ?? y]
    }
    .sums(["mean": ["mean", "residual"]]).fused()
  }

  private static func backward(
    _ dtype: DType, _ layout: Layout, _ title: String? = nil, _ operands: [CaseInput] = [],
    prologue: (@Sendable (Tensor, CaseTensors) -> Tensor)? = nil
  ) -> KernelCase {
    let (axis, shape) = (layout.axis, layout.shape)
    let (count, sum) = (Double(layout.values), Bound.centredSum(of: 2 * layout.values))
    return KernelCase(
      BatchNormBackwardProblem.family, layout.label + (title.map { ", \($0)" } ?? ""), dtype,
      inputs: layout.inputs + [CaseInput("dy", layout.shape)] + operands, bound: .exact
    ) { t in
      let statistics = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5)), [t["x"], t["scale"], t["shift"]])
      let results = t.builder.append(
        .batchNormBackward(BatchNormBackward(axis: axis, epsilon: 1e-5)),
        [prologue?(t["dy"], t) ?? t["dy"], t["x"], t["scale"]] + statistics[1...])
      return ["dx": results[0], "dscale": results[1], "dshift": results[2]]
    }
    .bounds([
      "dx": Bound(eps: 4 + sum, of: .terms), "dscale": Bound(eps: 2 + sum, of: .terms),
      "dshift": Bound(eps: 2 + sum, of: .terms),
    ])
    .terms { t in
      let statistics = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5)), [t["x"], t["scale"], t["shift"]])
      let axes = shape.dimensions.indices.filter { $0 != axis }
      let rstd = (statistics[3] + 1e-5).elementwise(.reciprocalSquareRoot).channels(axis, of: shape)
      let dy = (prologue?(t["dy"], t) ?? t["dy"]).magnitude
      let normalized = normalized(t["x"], statistics, axis) + 1.0
      let dscale = (dy * normalized).sum(axes: axes, keepingDimensions: true)
      let dshift = dy.sum(axes: axes, keepingDimensions: true)
      // dx is γ·rstd times a difference that may vanish (with two values in a channel it always does).
      let gain = t["scale"].channels(axis, of: shape) * rstd
      return [
        "dx": gain * (dy + (dshift + normalized * dscale) * (1 / count)),
        "dscale": dscale.reshape([shape[axis]]), "dshift": dshift.reshape([shape[axis]]),
      ]
    }
  }

  /// |x̂|, from x and its statistics. It is off by its own digits and by those of the mean, which are relative to the
  /// deviation: by epsilons of |x̂| + 1.
  private static func normalized(_ x: Tensor, _ statistics: [Tensor], _ axis: Int) -> Tensor {
    let rstd = (statistics[3] + 1e-5).elementwise(.reciprocalSquareRoot)
    let offset = x - statistics[1].channels(axis, of: x.shape) - statistics[2].channels(axis, of: x.shape)
    return offset.magnitude * rstd.channels(axis, of: x.shape)
  }

  /// y is exactly β, whatever the constant.
  private static func constantChannels(_ dtype: DType) -> [KernelCase] {
    // In double precision the reference itself rounds its mean.
    guard dtype == .float32 else { return [] }
    return [Layout(shape: [257, 9], axis: 1), Layout(shape: [5, 9, 40], axis: 1), Layout(shape: [5000, 3], axis: 1)].map
    {
      layout in
      let (axis, inner) = (layout.axis, layout.shape.dimensions[(layout.axis + 1)...].reduce(1, *))
      let channels = layout.channels
      var inputs = layout.inputs
      inputs[0].source = .indexed { 1234.567 * Double($0 / inner % channels) - 0.3 }
      return KernelCase(
        BatchNormForwardProblem.family, layout.label + ", constant channels", dtype, inputs: inputs,
        bound: Bound(eps: 1e-3, of: .each)
      ) { t in
        let y = t.builder.append(
          .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5)), [t["x"], t["scale"], t["shift"]])[0]
        return ["y": y]
      }.fused()
    }
  }

  /// - Parameter asked: what a guarded update is asked by; nil for none.
  private static func running(
    _ dtype: DType, _ channels: Int, _ weight: BatchNormRunningUpdate.Weight, asked: Double? = nil
  ) -> KernelCase {
    let title = "\(channels), weight \(weight)" + (asked.map { ", guarded by \($0)" } ?? "")
    return KernelCase(
      BatchNormRunningProblem.family, title, dtype,
      inputs: [
        CaseInput("runningMean", [channels], role: .runningStatistic),
        CaseInput("runningVariance", [channels], .uniform(0.5...2), role: .runningStatistic),
        // The average over no batches so far is what the first one says.
        CaseInput("batches", [channels], .indexed { Double($0 % 3) }, role: .runningStatistic),
        // Every eighth batch is broken: its channel keeps what it has.
        CaseInput("mean", [channels], .indexed { $0 % 8 == 7 ? .nan : Double($0) * 0.37 - 5 }),
        CaseInput("residual", [channels], .normal(offset: 0, scale: 1e-6)),
        CaseInput("variance", [channels], .indexed { $0 % 16 == 11 ? .infinity : 0.5 + Double($0 % 5) }),
      ] + (asked.map { [CaseInput("asked", [], .values([$0]))] } ?? []),
      bound: Bound(eps: weight == .cumulative ? 5 : 3, of: .terms)
    ) { t in
      let old = [t["runningMean"], t["runningVariance"], t["batches"]]
      let new = t.builder.append(
        .batchNormRunningUpdate(BatchNormRunningUpdate(weight: weight, varianceFactor: 32.0 / 31)),
        old + [t["mean"], t["residual"], t["variance"]])
      for (old, new) in zip(old, new) { t.builder.update(old, with: new) }
      if asked != nil { t.builder.guardUpdates(by: t["asked"]) }
      return [:]
    }
    // Six roundings: of the weight (a division, where it is counted) and the factor, of two products, of the difference,
    // of the result.
    .bounds(["batches": .exact])
    .terms { t in
      let (mean, variance) = (t["runningMean"].magnitude, t["runningVariance"])
      let share =
        switch weight {
        case .fixed(let weight): t.builder.constant(weight)
        case .cumulative: (t["batches"] + 1.0).elementwise(.reciprocal)
        }
      let newMean = mean + (t["mean"].magnitude + mean + t["residual"].magnitude) * share
      let newVariance = variance + (t["variance"] * (32.0 / 31) + variance) * share
      let isUsed = (t["mean"] - t["mean"] + t["variance"] - t["variance"]).elementwise(.equal, 0.0)
      return [
        "runningMean": isUsed.elementwise(.select, newMean, mean),
        "runningVariance": isUsed.elementwise(.select, newVariance, variance),
      ]
    }.fused()
  }
}
