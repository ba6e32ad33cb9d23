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
  /// x, and vectors of the type it is computed in.
  func inputs(_ dtype: DType) -> [CaseInput] {
    [
      x, CaseInput("scale", [channels], .uniform(0.5...1.5), dtype: dtype.arithmetic),
      CaseInput("shift", [channels], dtype: dtype.arithmetic),
    ]
  }
}

extension KernelCases {
  private static let layouts: [Layout] =
    // [rows, C]: lanes of eight, groups of 32, chunks of 256, lines of 1024 channels; slices; and their rests.
    [
      (257, 1), (257, 3), (257, 8), (257, 9), (33, 64), (5, 4097), (2, 9), (3, 17), (32, 32), (1025, 8), (5000, 3),
      (4097, 1), (139, 271), (20, 1035),
    ].map { Layout(shape: [$0.0, $0.1], axis: 1) }
    + [
      Layout(shape: [7, 5, 9], axis: 2), Layout(shape: [7, 9, 5], axis: 1), Layout(shape: [7, 9, 16], axis: 1),
      Layout(shape: [3, 5, 6, 7], axis: 1), Layout(shape: [3, 6, 7, 5], axis: 3), Layout(shape: [9, 40], axis: 0),
      Layout(shape: [2, 3, 2, 3, 5], axis: 1), Layout(shape: [1, 3, 61, 43], axis: 1),
      Layout(shape: [1, 1, 3001], axis: 1),
      Layout(shape: [600, 2, 3], axis: 1), Layout(shape: [300, 2, 11], axis: 1),
      Layout(shape: [3, 2, 2900], axis: 1), Layout(shape: [1, 1, 17001], axis: 1),
    ]

  /// Means far above the deviation, in each layout: the table of the README.
  private static let offsets: [Layout] = [([256, 16], 1), ([4, 16, 8, 8], 1), ([4, 8, 8, 16], 3)].flatMap {
    shape, axis in
    [(100, 1), (1e4, 1), (1e4, 0.01), (1e6, 1)].map { (offset: Double, deviation: Double) in
      Layout(shape: shape, axis: axis, offset: offset, deviation: deviation)
    }
  }

  /// x, y, dy and dx in 16 bits, everything else in float32.
  static func storedBatchNorm(_ dtype: DType) -> [KernelCase] {
    let layouts =
      [([257, 9], 1), ([5, 4097], 1), ([139, 271], 1), ([7, 9, 16], 1), ([3, 5, 6, 7], 1), ([7, 9, 5], 1)].map {
        (shape: Shape, axis: Int) in Layout(shape: shape, axis: axis)
      } + [Layout(shape: [256, 16], axis: 1, offset: 100), Layout(shape: [4, 16, 8, 8], axis: 1, offset: 100)]
    return layouts.flatMap { layout in
      let (r, s) = (CaseInput("r", layout.shape), CaseInput("s", []))
      return [
        forward(dtype, layout),
        forward(dtype, layout, "plus r", [r], slot: Expression(.add)) { y, t in y + t["r"] },
        forward(dtype, layout, "times s", [s], slot: Expression(.multiply)) { y, t in y * t["s"] },
        backward(dtype, layout),
        backward(dtype, layout, "plus r", [r], slot: Expression(.add)) { dy, t in dy + t["r"] },
        backward(dtype, layout, "times s", [s], slot: Expression(.multiply)) { dy, t in dy * t["s"] },
      ]
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

  /// - Parameters:
  ///   - slot: the epilogue, put into the operation by the case and not by the compiler; nil leaves it to that.
  ///   - epilogue: the same for tensors.
  private static func forward(
    _ dtype: DType, _ layout: Layout, _ title: String? = nil, _ operands: [CaseInput] = [], slot: Expression? = nil,
    epilogue: (@Sendable (Tensor, CaseTensors) -> Tensor)? = nil
  ) -> KernelCase {
    let (axis, shape) = (layout.axis, layout.shape)
    return KernelCase(
      BatchNormForwardProblem.family, layout.label + (title.map { ", \($0)" } ?? ""), dtype,
      inputs: layout.inputs(dtype) + operands, bound: .stored(eps: 4, in: dtype, of: .terms)
    ) { t in
      let results = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5, epilogue: slot)),
        [t["x"], t["scale"], t["shift"]] + (slot == nil ? [] : operands.map { t[$0.name] }))
      return [
        "y": slot == nil ? epilogue?(results[0], t) ?? results[0] : results[0], "mean": results[1],
        "residual": results[2], "variance": results[3],
      ]
    }
    .bounds([
      "mean": .stored(eps: 2, in: dtype, times: 0, of: .fixed(layout.deviation)),
      "variance": .stored(eps: 8, in: dtype, times: 0, of: .each),
    ])
    .terms { t in
      let (x, scale, shift) = (t["x"], t["scale"].cast(to: .float64), t["shift"].cast(to: .float64))
      let statistics = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5)), [x, scale, shift])
      let normalized = normalized(x, statistics, axis) + 1.0
      let y = normalized * scale.channels(axis, of: shape) + shift.magnitude.channels(axis, of: shape)
      // Of these epilogues: what they add is added, and no difference is stretched.
      return ["y": epilogue?(y, t.magnitudes) ?? y]
    }
    .sums(["mean": ["mean", "residual"]]).fused()
  }

  private static func backward(
    _ dtype: DType, _ layout: Layout, _ title: String? = nil, _ operands: [CaseInput] = [], slot: Expression? = nil,
    prologue: (@Sendable (Tensor, CaseTensors) -> Tensor)? = nil
  ) -> KernelCase {
    let (axis, shape) = (layout.axis, layout.shape)
    let (count, sum) = (Double(layout.values), Bound.centredSum(of: 2 * layout.values))
    return KernelCase(
      BatchNormBackwardProblem.family, layout.label + (title.map { ", \($0)" } ?? ""), dtype,
      inputs: layout.inputs(dtype) + [CaseInput("dy", layout.shape)] + operands, bound: .exact
    ) { t in
      let statistics = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5)), [t["x"], t["scale"], t["shift"]])
      let results = t.builder.append(
        .batchNormBackward(BatchNormBackward(axis: axis, epsilon: 1e-5, prologue: slot)),
        [slot == nil ? prologue?(t["dy"], t) ?? t["dy"] : t["dy"], t["x"], t["scale"]] + statistics[1...]
          + (slot == nil ? [] : operands.map { t[$0.name] }))
      return ["dx": results[0], "dscale": results[1], "dshift": results[2]]
    }
    .bounds([
      "dx": .stored(eps: 4 + sum, in: dtype, of: .terms),
      "dscale": .stored(eps: 2 + sum, in: dtype, times: 0, of: .terms),
      "dshift": .stored(eps: 2 + sum, in: dtype, times: 0, of: .terms),
    ])
    .terms { t in
      let (x, scale, shift) = (t["x"], t["scale"].cast(to: .float64), t["shift"].cast(to: .float64))
      let statistics = t.builder.append(
        .batchNormTraining(BatchNormTraining(axis: axis, epsilon: 1e-5)), [x, scale, shift])
      let axes = shape.dimensions.indices.filter { $0 != axis }
      let rstd = (statistics[3] + 1e-5).elementwise(.reciprocalSquareRoot).channels(axis, of: shape)
      let dy = (prologue?(t["dy"], t) ?? t["dy"]).magnitude
      let normalized = normalized(x, statistics, axis) + 1.0
      let dscale = (dy * normalized).sum(axes: axes, keepingDimensions: true)
      let dshift = dy.sum(axes: axes, keepingDimensions: true)
      // dx is γ·rstd times a difference that may vanish (with two values in a channel it always does).
      let gain = scale.channels(axis, of: shape) * rstd
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
      var inputs = layout.inputs(dtype)
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
