import Foundation
import KeelCore
import KeelGraph
import Testing

@Suite struct OptimizerStepTests {
  private static let rates = [0.5, 0.1, 0.01]

  /// Two steps over parameters p [2] and q [1] with the gradients given for each; slots start at zero.
  private func twoSteps(_ rule: UpdateRule, gradients: [[String: [Double]]]) throws -> [[String: [Double]]] {
    let builder = GraphBuilder(dtype: .float64)
    let types = ["p": f64(2), "q": f64(1)]
    let names = ["p", "q"]
    let parameters = names.map { builder.input($0, types[$0] ?? f64(), role: .parameter) }
    let cotangents = names.map { builder.input("d" + $0, types[$0] ?? f64()) }
    let slots = rule.slots.flatMap { slot in
      names.map { builder.input("\(slot).\($0)", types[$0] ?? f64(), role: .optimizerSlot) }
    }
    let head = [builder.input("rates", f64(3)), builder.input("cursor", Cursor.type)]
    let moved = builder.append(
      .optimizerStep(OptimizerStep(rule, count: 2)), head + parameters + cotangents + slots)
    for (old, new) in zip(parameters + slots, moved) { builder.update(old, with: new) }
    let interpreter = try Interpreter(builder.graph())
    var variables: [String: [Double]] = ["p": [1, -2], "q": [3]]
    for slot in rule.slots { (variables[slot + ".p"], variables[slot + ".q"]) = ([0, 0], [0]) }
    return try gradients.enumerated().map { step, gradient in
      let control = ["rates": Self.rates, "cursor": [0, Double(step + 1), Double(step)]]
      variables = try interpreter.run(
        variables.merging(gradient) { $1 }.merging(control) { $1 }
      ).variables
      return variables
    }
  }

  private let gradients: [[String: [Double]]] = [["dp": [4, 2], "dq": [-1]], ["dp": [1, -3], "dq": [2]]]

  @Test func plainDescent() throws {
    let steps = try twoSteps(.sgd(momentum: 0, nesterov: false, weightDecay: 0), gradients: gradients)
    // The rate of a step stands at its place in the epoch: 0.1, then 0.01.
    #expect(distance(steps[0]["p"] ?? [], [0.6, -2.2]) < 1e-15)
    #expect(distance(steps[0]["q"] ?? [], [3.1]) < 1e-15)
    #expect(distance(steps[1]["p"] ?? [], [0.59, -2.17]) < 1e-15)
    #expect(distance(steps[1]["q"] ?? [], [3.08]) < 1e-15)
    #expect(Set(steps[1].keys) == ["p", "q"])
  }

  @Test func momentum() throws {
    let steps = try twoSteps(.sgd(momentum: 0.5, nesterov: false, weightDecay: 0), gradients: gradients)
    // b = 4, then 0.5·4 + 1 = 3; p = 1 − 0.1·4 = 0.6, then 0.6 − 0.01·3 = 0.57
    #expect(distance(steps[0]["momentum.p"] ?? [], [4, 2]) < 1e-15)
    #expect(distance(steps[1]["momentum.p"] ?? [], [3, -2]) < 1e-15)
    #expect(distance(steps[1]["p"] ?? [], [0.57, -2.18]) < 1e-15)
    #expect(distance(steps[1]["momentum.q"] ?? [], [1.5]) < 1e-15)
    #expect(distance(steps[1]["q"] ?? [], [3.085]) < 1e-15)
  }

  @Test func nesterovMomentum() throws {
    let steps = try twoSteps(.sgd(momentum: 0.5, nesterov: true, weightDecay: 0), gradients: gradients)
    // change = g + μb: 4 + 2 = 6, then 1 + 0.5·3 = 2.5
    #expect(distance(steps[0]["p"] ?? [], [0.4, -2.3]) < 1e-15)
    #expect(distance(steps[1]["p"] ?? [], [0.375, -2.26]) < 1e-15)
  }

  @Test func weightDecayJoinsTheGradient() throws {
    let steps = try twoSteps(.sgd(momentum: 0.5, nesterov: false, weightDecay: 0.1), gradients: gradients)
    // g = 4 + 0.1·1 = 4.1, p = 0.59; then g = 1 + 0.059, b = 2.05 + 1.059 = 3.109, p = 0.59 − 0.03109
    #expect(distance(steps[0]["momentum.p"] ?? [], [4.1, 1.8]) < 1e-15)
    #expect(distance(steps[0]["p"] ?? [], [0.59, -2.18]) < 1e-15)
    #expect(abs((steps[1]["p"]?[0] ?? 0) - 0.55891) < 1e-14)
  }

  @Test func adam() throws {
    let rule = UpdateRule.adam(beta1: 0.9, beta2: 0.99, epsilon: 1e-3, weightDecay: 0)
    let steps = try twoSteps(rule, gradients: gradients)
    // Step 1: m̂ = g, v̂ = g².
    #expect(distance(steps[0]["firstMoment.p"] ?? [], [0.4, 0.2]) < 1e-15)
    #expect(distance(steps[0]["secondMoment.p"] ?? [], [0.16, 0.04]) < 1e-15)
    let first = 1 - 0.1 * 4 / (4 + 1e-3)
    #expect(abs((steps[0]["p"]?[0] ?? 0) - first) < 1e-14)
    // Step 2: m = 0.36 + 0.1, v = 0.1584 + 0.01; bias corrections 1 − 0.81 and 1 − 0.9801.
    #expect(abs((steps[1]["firstMoment.p"]?[0] ?? 0) - 0.46) < 1e-15)
    #expect(abs((steps[1]["secondMoment.p"]?[0] ?? 0) - 0.1684) < 1e-15)
    let second = first - 0.01 * (0.46 / 0.19) / ((0.1684 / 0.0199).squareRoot() + 1e-3)
    #expect(abs((steps[1]["p"]?[0] ?? 0) - second) < 1e-14)
  }

  @Test func adamWithWeightDecay() throws {
    let rule = UpdateRule.adam(beta1: 0, beta2: 0, epsilon: 1, weightDecay: 0.5)
    // m̂ = g, v̂ = g² with g = dp + p/2: 4.5 and 1.
    let steps = try twoSteps(rule, gradients: gradients)
    #expect(distance(steps[0]["p"] ?? [], [1 - 0.45 / 5.5, -2 - 0.1 / 2]) < 1e-14)
  }

  @Test func layoutOfOperandsAndResults() {
    let step = OptimizerStep(.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0), count: 3)
    #expect(step.parameters == 2..<5 && step.gradients == 5..<8)
    #expect(step.slot(0) == 8..<11 && step.slot(1) == 11..<14)
    #expect(step.outputCount == 9)
    // Parameters and slots change where they lie; gradients do not.
    #expect(step.inPlace.map(\.output) == Array(0..<9))
    #expect(step.inPlace.map(\.operand) == [2, 3, 4] + Array(8..<14))
    #expect(UpdateRule.sgd(momentum: 0, nesterov: false, weightDecay: 0).slots.isEmpty)
  }

  @Test func typeRule() throws {
    let step = Operation.optimizerStep(OptimizerStep(.sgd(momentum: 0.9, nesterov: false, weightDecay: 0), count: 1))
    let w = f32(3, 2)
    #expect(try outputTypes(step, f32(10), i32(3), w, w, w) == [w, w])
    #expect(refusal(step, f32(10), i32(3), w, w) == "[optimizerStep] expects 5 operands, got 4")
    #expect(
      refusal(step, f32(10), i32(3), w, f32(2, 3), w)
        == "[optimizerStep] expects gradients and slots of the parameters' types [f32[3, 2]], got [f32[2, 3]]")
    #expect(refusal(step, f32(10), i32(3), w, w, f32(6))?.hasSuffix("got [f32[6]]") == true)
    let head = "[optimizerStep] expects learning rates [steps] and a cursor, got "
    #expect(refusal(step, f32(), i32(3), w, w, w) == head + "f32[] and i32[3]")
    #expect(refusal(step, f32(0), i32(3), w, w, w) == head + "f32[0] and i32[3]")
    #expect(refusal(step, f32(10), i32(1), w, w, w) == head + "f32[10] and i32[1]")
    #expect(refusal(step, f64(10), i32(3), w, w, w)?.contains("one floating-point type") == true)
  }
}
