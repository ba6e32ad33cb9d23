import Foundation
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
        CaseInput("rates", [3], .values([0.3, rate, 0.7]), role: .control), .cursor(stepInEpoch: 1, step: step),
      ] + parameters + gradients + slots + (asked.map { [CaseInput("asked", [], .values([$0]))] } ?? []),
      bound: Bound(eps: 1, of: .terms)
    ) { t in
      let changing = (parameters + slots).map { t[$0.name] }
      let operands = [t["rates"], t["cursor"]] + (parameters + gradients + slots).map { t[$0.name] }
      let results = t.builder.append(.optimizerStep(OptimizerStep(rule, count: shapes.count)), operands)
      for (variable, value) in zip(changing, results) { t.builder.update(variable, with: value) }
      if asked != nil { t.builder.guardUpdates(by: t["asked"]) }
      return [:]
    }
    .terms { t in
      var terms: [String: Tensor] = [:]
      for index in shapes.indices {
        for (name, value) in tolerances(rule, step: step, of: { t["\($0)\(index)"] }) {
          terms["\(name)\(index)"] = value
        }
      }
      return terms
    }
  }

  static let rate = 0.05

  /// How many epsilons the results of a rule may be off, element by element, in the order of its formula in ``UpdateRule``:
  /// half an epsilon for every rounding, of a rule's factors too, and what OpenCL allows expm1, sqrt (3 ulp) and a
  /// division (2.5 ulp).
  ///
  /// - Parameter given: what the gradient is off by before.
  static func tolerances(
    _ rule: UpdateRule, step: Int, given: Tensor? = nil, of operand: (String) -> Tensor
  ) -> [String: Tensor] {
    let (p, g) = (operand("p"), operand("g"))
    let given = given ?? g * 0.0
    switch rule {
    case .sgd(let momentum, let nesterov, let weightDecay):
      // Each with its tolerance: the gradient, the momentum, the direction.
      let decay = p.magnitude * weightDecay
      var direction = (size: g.magnitude + decay, off: given + g.magnitude * 0.5 + decay * 1.5)
      var tolerances: [String: Tensor] = [:]
      if momentum != 0 {
        let old = operand("momentum").magnitude * momentum
        let moved = (size: old + direction.size, off: old * 1.5 + direction.size * 0.5 + direction.off)
        tolerances["momentum"] = moved.off
        direction =
          nesterov
          ? (
            direction.size + moved.size * momentum,
            direction.off + direction.size * 0.5 + (moved.off + moved.size * 1.5) * momentum
          ) : moved
      }
      tolerances["p"] = p.magnitude * 0.5 + (direction.off + direction.size) * rate
      return tolerances
    case .adam(let beta1, let beta2, let epsilon, let weightDecay):
      let t = Double(step + 1)
      let (m, v) = (operand("firstMoment"), operand("secondMoment"))
      let decay = p.magnitude * weightDecay
      let gradient = g + p * weightDecay
      let gradientOff = given + g.magnitude * 0.5 + decay * 1.5
      let first = m * beta1 + gradient * (1 - beta1)
      let firstOff = m.magnitude * (1.5 * beta1) + (gradientOff + (g.magnitude + decay) * 4.5) * (1 - beta1)
      let second = v * beta2 + gradient.elementwise(.square) * (1 - beta2)
      let secondOff =
        v * (1.5 * beta2) + gradient.magnitude * (gradientOff * 2.0 + gradient.magnitude * 5.0) * (1 - beta2)
      let quotient =
        (((second * (1 / (1 - pow(beta2, t)))).elementwise(.squareRoot) + epsilon))
        .elementwise(.reciprocal) * (rate / (1 - pow(beta1, t)))
      // Relative: η / (1 − β₁ᵗ) 6.5, 1 / √(1 − β₂ᵗ) 7.5, √v 3 and half of v's own; two products, a sum, a division.
      let relativeOff = secondOff / second * 0.5 + 21.5
      return [
        "firstMoment": firstOff, "secondMoment": secondOff,
        "p": p.magnitude * 0.5 + quotient * (firstOff + first.magnitude * (relativeOff + 0.5)),
      ]
    }
  }
}
