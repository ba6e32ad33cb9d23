import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  private static let rules: [(title: String, rule: UpdateRule)] = [
    ("SGD", .sgd(momentum: 0, nesterov: false, weightDecay: 0)),
    ("SGD, weight decay", .sgd(momentum: 0, nesterov: false, weightDecay: 0.01)),
    ("momentum", .sgd(momentum: 0.9, nesterov: false, weightDecay: 0)),
    ("momentum, weight decay", .sgd(momentum: 0.9, nesterov: false, weightDecay: 0.01)),
    ("Nesterov", .sgd(momentum: 0.9, nesterov: true, weightDecay: 0)),
    ("Adam", .adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0)),
    ("Adam, weight decay", .adam(beta1: 0.9, beta2: 0.99, epsilon: 1e-6, weightDecay: 0.01)),
  ]
  private static let parameterShapes: [Shape] = [[7], [3, 5], [1], [64], [129, 17], [5003]]

  static func optimizer(_ dtype: DType) -> [KernelCase] {
    rules.flatMap { title, rule in
      [0, 1000].flatMap { step in
        [
          optimizer(dtype, title, rule, step, parameterShapes), optimizer(dtype, title, rule, step, [[9]]),
          optimizer(dtype, title, rule, step, [[9], [65]], asked: step == 0 ? 1 : -.infinity),
        ]
      }
    }
  }

  /// - Parameter asked: what a guarded step is asked by; nil for none.
  private static func optimizer(
    _ dtype: DType, _ title: String, _ rule: UpdateRule, _ step: Int, _ shapes: [Shape], asked: Double? = nil
  ) -> KernelCase {
    let title = title + (asked.map { ", guarded by \($0)" } ?? "")
    func tensors(_ name: String, _ source: CaseInput.Source, _ role: Role) -> [CaseInput] {
      shapes.enumerated().map { CaseInput("\(name)\($0.offset)", $0.element, source, role: role) }
    }
    let parameters = tensors("p", .normal, .parameter)
    let gradients = tensors("g", .normal, .data)
    // Slots start from zero; a second moment is never negative.
    let slots = rule.slots.flatMap { slot in
      tensors(slot, step == 0 ? .zeros : slot == "secondMoment" ? .uniform(0.01...2) : .normal, .optimizerSlot)
    }
    return KernelCase(
      OptimizerProblem.family, "\(title), \(shapes.count) tensors, step \(step)", dtype,
      inputs: [
        CaseInput("rates", [3], .values([0.3, 0.05, 0.7]), role: .control), .cursor(stepInEpoch: 1, step: step),
      ] + parameters + gradients + slots + (asked.map { [CaseInput("asked", [], .values([$0]))] } ?? []),
      bound: Bound(eps: 4)
    ) { t in
      let changing = (parameters + slots).map { t[$0.name] }
      let operands = [t["rates"], t["cursor"]] + (parameters + gradients + slots).map { t[$0.name] }
      let results = t.builder.append(.optimizerStep(OptimizerStep(rule, count: shapes.count)), operands)
      for (variable, value) in zip(changing, results) { t.builder.update(variable, with: value) }
      if asked != nil { t.builder.guardUpdates(by: t["asked"]) }
      return [:]
    }
    // The few values of a small tensor may all lie near 0, as differences; second moments are sums.
    .bounds(
      Dictionary(
        uniqueKeysWithValues: (parameters + slots).filter { !$0.name.hasPrefix("secondMoment") }
          .map { ($0.name, Bound(eps: 4, of: .largestOrAtLeast(0.25))) }))
  }
}
