import KeelCore
import KeelGraph
import KeelPrimitives

extension KernelCases {
  /// Products that are gradients, with the update of their parameters. Around the edges of tiles, panels and blocks, and up
  /// to the depth of a chunk; where sums wait between chunks only some variants take them.
  static func gemmUpdate(_ dtype: DType) -> [KernelCase] {
    let adam = UpdateRule.adam(beta1: 0.9, beta2: 0.99, epsilon: 1e-6, weightDecay: 0.01)
    let shapes: [(m: Int, n: Int, k: Int)] = [
      (1, 1, 1), (8, 32, 8), (7, 17, 33), (17, 6, 5), (33, 5, 17), (97, 33, 256), (300, 10, 32), (129, 65, 40),
    ]
    var cases = shapes.flatMap { shape in
      [0, 1000].map { update(dtype, shape, (true, false), "Adam", adam, step: $0) }
    }
    // Each rule and transposition is a program, and this kernel compiles slowest of all.
    if dtype == .float64 { return cases }
    for shape in [(m: 784, n: 32, k: 32), (m: 13, n: 19, k: 512), (m: 17, n: 33, k: 600)] {
      cases.append(update(dtype, shape, (true, false), "Adam", adam, step: 1000))
    }
    for shape in shapes[1..<5] {
      cases += [
        update(dtype, shape, (true, false), "SGD", .sgd(momentum: 0, nesterov: false, weightDecay: 0.01), step: 0),
        update(
          dtype, shape, (true, false), "Nesterov", .sgd(momentum: 0.9, nesterov: true, weightDecay: 0), step: 1000),
        update(dtype, shape, (false, true), "Adam", adam, step: 1000),
        update(dtype, shape, (true, false), "Adam of a scaled product", adam, step: 1000, isScaled: true),
        update(dtype, shape, (true, false), "Adam", adam, step: 1000, asked: 1),
        update(dtype, shape, (true, false), "Adam", adam, step: 1000, asked: -.infinity),
      ]
    }
    return cases
  }

  /// - Parameters:
  ///   - isScaled: the product has an epilogue.
  ///   - asked: what a guarded update is asked by; nil for none.
  private static func update(
    _ dtype: DType, _ shape: (m: Int, n: Int, k: Int), _ transpose: (a: Bool, b: Bool), _ title: String,
    _ rule: UpdateRule, step: Int, isScaled: Bool = false, asked: Double? = nil
  ) -> KernelCase {
    let (m, n, k) = shape
    let kind = "\(transpose.a ? "T" : "N")\(transpose.b ? "T" : "N")"
    let title = "\(title), step \(step)" + (asked.map { ", guarded by \($0)" } ?? "")
    let slots = rule.slots.map { slot in
      CaseInput(
        slot, [m, n], step == 0 ? .zeros : slot == "secondMoment" ? .uniform(0.01...2) : .normal, role: .optimizerSlot)
    }
    var inputs = [
      CaseInput("a", transpose.a ? [k, m] : [m, k]), CaseInput("b_", transpose.b ? [n, k] : [k, n]),
      CaseInput("rates", [3], .values([0.3, rate, 0.7]), role: .control), .cursor(stepInEpoch: 1, step: step),
      CaseInput("p", [m, n], role: .parameter),
    ]
    inputs += slots
    if isScaled { inputs.append(CaseInput("s", [n])) }
    if let asked { inputs.append(CaseInput("asked", [], .values([asked]))) }
    return KernelCase(
      GemmProblem.family, "\(m)×\(n)×\(k) \(kind) \(title)", dtype, inputs: inputs, bound: Bound(eps: 1, of: .terms)
    ) { t in
      let product = MatMul(
        transposeA: transpose.a, transposeB: transpose.b, epilogue: isScaled ? Expression(.multiply) : nil)
      let changing = [t["p"]] + slots.map { t[$0.name] }
      let factors = isScaled ? [t["a"], t["b_"], t["s"]] : [t["a"], t["b_"]]
      let results = t.builder.append(
        .matMulUpdate(MatMulUpdate(product, rule)), factors + [t["rates"], t["cursor"]] + changing)
      for (variable, value) in zip(changing, results) { t.builder.update(variable, with: value) }
      if asked != nil { t.builder.guardUpdates(by: t["asked"]) }
      return [:]
    }
    .terms { t in
      func product(_ t: CaseTensors) -> Tensor {
        let z = t["a"].matMul(t["b_"], transposeA: transpose.a, transposeB: transpose.b)
        return isScaled ? z * t["s"] : z
      }
      // Of the sum, and of the scaling.
      let given = product(t.magnitudes) * (Bound.centredSum(of: 2 * k) + (isScaled ? 0.5 : 0))
      return tolerances(rule, step: step, given: given) { $0 == "g" ? product(t) : t[$0] }
    }.fused()
  }
}
