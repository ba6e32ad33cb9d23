import KeelCL
import KeelCore
import KeelGraph
import KeelPrimitives

extension OptimizerProblem.Rule {
  init(_ rule: UpdateRule) {
    self =
      switch rule {
      case .sgd(let momentum, let nesterov, let weightDecay):
        .sgd(momentum: momentum, nesterov: nesterov, weightDecay: weightDecay)
      case .adam(let beta1, let beta2, let epsilon, let weightDecay):
        .adam(beta1: beta1, beta2: beta2, epsilon: epsilon, weightDecay: weightDecay)
      }
  }
}

extension Lowering {
  /// One flat launch for each run of parameters whose gradients and slots lie as they do: for all of them where a rule has
  /// one slot or none, else for all matrices and for all else; for more where some are frozen.
  func optimizerStep(_ step: OptimizerStep, _ inputs: [TensorType]) throws -> Lowered? {
    if step.count == 0 { return nil }
    let (dtype, rule) = (inputs[2].dtype, OptimizerProblem.Rule(step.rule))
    let variant = try OptimizerProblem(rule, count: 1, dtype: dtype).variant(on: profile, forced: forced)
    return Lowered(variant: "\(OptimizerProblem.family).\(variant.name)", overwrites: step.inPlace) { placed, context in
      // For each parameter: itself, its slots, its gradient.
      let positions = [step.parameters] + step.rule.slots.indices.map(step.slot) + [step.gradients]
      // In the order in which they lie, which need not be that of the layers.
      let parameters = Array(placed.inputs[step.parameters])
      let order = parameters.indices.sorted { parameters[$0].byteOffset < parameters[$1].byteOffset }
      let columns = positions.map { position in
        let column = Array(placed.inputs[position])
        return order.map { column[$0] }
      }
      let padding = joinsParameters ? context.profile.alignment : 0
      return try Self.runs(columns, padding: padding).flatMap { run in
        let buffers = try columns.map { try Self.joined(Array($0[run])) }
        let problem = OptimizerProblem(
          rule, count: buffers[0].byteCount / dtype.byteCount, dtype: dtype, isGuarded: step.isGuarded)
        return try variant.bind(
          problem,
          Operands(
            outputs: Array(buffers.dropLast()),
            inputs: [buffers[buffers.count - 1], placed.inputs[0], placed.inputs[1]]
              + (step.guardPosition.map { [placed.inputs[$0]] } ?? [])),
          context)
      }
    }
  }

  /// Ranges over which all columns of buffers advance by the same number of bytes, in one parent each. What lies
  /// between two of a run is padding: a tensor that is left out, however small, takes a place of its own.
  private static func runs(_ columns: [[Buffer]], padding: Int) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    var start = 0
    for index in 1..<max(columns[0].count, 1) + 1 {
      let continues =
        index < columns[0].count
        && columns.allSatisfy { column in
          let step = column[index].byteOffset - column[index - 1].byteOffset
          let own = columns[0][index].byteOffset - columns[0][index - 1].byteOffset
          return column[index].parent === column[start].parent && step == own
            && (0..<padding).contains(step - column[index - 1].byteCount)
        }
      if !continues {
        runs.append(start..<index)
        start = index
      }
    }
    return runs
  }

  private static func joined(_ buffers: [Buffer]) throws -> Buffer {
    guard let first = buffers.first, let last = buffers.last, let parent = first.parent, buffers.count > 1 else {
      return buffers[0]
    }
    return try parent.slice(
      byteOffset: first.byteOffset, byteCount: last.byteOffset + last.byteCount - first.byteOffset)
  }
}
