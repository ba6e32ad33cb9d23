import Foundation
import KeelCore
import KeelGraph
import Testing

@testable import KeelNN

@Suite struct LossTests {
  private func builder(_ loss: Loss, _ outputs: TensorType, _ targets: TensorType) -> GraphBuilder {
    let builder = GraphBuilder(name: "test")
    let (y, t) = (builder.input("outputs", outputs), builder.input("targets", targets))
    builder.output("loss", loss(y, t))
    if let hits = loss.hits(y, t) { builder.output("hits", hits) }
    return builder
  }

  @Test func crossEntropyIsOneOperation() throws {
    let builder = builder(.softmaxCrossEntropy, TensorType([4, 3]), TensorType([4], .int32))
    #expect(
      try builder.graph().description == """
        graph test {
          %0 = outputs{data} : f32[4, 3]
          %1 = targets{data} : i32[4]
          %2 = softmaxCrossEntropy(%0, %1) : f32[4]  // loss
          %3 = topOne(%0, %1) : f32[4]  // accuracy
          output loss = %2
          output hits = %3
        }
        """)
    let result = try Interpreter(builder.graph()).run([
      "outputs": [0, 0, 0, 1, 2, 3, 3, 2, 1, 0, 5, 0], "targets": [0, 2, 2, 1],
    ])
    let losses = try #require(result.outputs["loss"])
    #expect(abs(losses[0] - log(3)) < 1e-12)
    #expect(abs(losses[1] - log(1 + exp(-1) + exp(-2))) < 1e-12)
    #expect(abs(losses[2] - (2 + log(1 + exp(-1) + exp(-2)))) < 1e-12)
    #expect(result.outputs["hits"] == [1, 1, 0, 1])
  }

  @Test func squaredErrorIsTheMeanOfEachSample() throws {
    let type = TensorType([2, 2, 2])
    let builder = builder(.meanSquaredError, type, type)
    let result = try Interpreter(builder.graph()).run([
      "outputs": [1, 2, 3, 4, 0, 0, 0, 0], "targets": [0, 0, 0, 0, 2, 0, 0, 0],
    ])
    #expect(result.outputs["loss"] == [7.5, 1])
    #expect(result.outputs["hits"] == nil)
    #expect(try self.builder(.meanSquaredError, TensorType([5]), TensorType([5])).graph().outputs.count == 1)
  }

  @Test func targetsMustFit() {
    func message(_ loss: Loss, _ outputs: TensorType, _ targets: TensorType) -> String? {
      builder(loss, outputs, targets).error?.description
    }
    #expect(
      message(.meanSquaredError, TensorType([4, 1]), TensorType([4]))
        == "[meanSquaredError] loss: expects outputs [N, ..] and targets of one type, got f32[4, 1] and f32[4]")
    #expect(
      message(.softmaxCrossEntropy, TensorType([4, 3]), TensorType([5], .int32))
        == "[softmaxCrossEntropy] loss: expects logits [N, K] and labels i32[N], got f32[4, 3] and i32[5]")
    #expect(message(.meanSquaredError, TensorType([4, 3]), TensorType([4, 3])) == nil)
    #expect(message(.softmaxCrossEntropy, TensorType([4, 3]), TensorType([4], .int32)) == nil)
  }
}

@Suite struct OptimizerTests {
  @Test func giveTheirRules() {
    #expect(SGD(learningRate: 0.1).rule == .sgd(momentum: 0, nesterov: false, weightDecay: 0))
    #expect(
      SGD(learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 1e-4).rule
        == .sgd(momentum: 0.9, nesterov: true, weightDecay: 1e-4))
    #expect(Adam().rule == .adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0))
    #expect(Adam().learningRate == 1e-3)
  }

  @Test func acceptTheirRanges() throws {
    try SGD(learningRate: 0).validate()
    try SGD(learningRate: 1, momentum: 0.99, nesterov: true, weightDecay: 1).validate()
    try Adam(learningRate: 0.01, beta1: 0, beta2: 0).validate()
  }

  @Test func nameTheSettingOutOfRange() {
    let cases: [(any Optimizer, String)] = [
      (SGD(learningRate: -1), "[sgd] expects learningRate ≥ 0, got -1.0"),
      (SGD(learningRate: .nan), "[sgd] expects learningRate ≥ 0, got nan"),
      (SGD(learningRate: 1, momentum: 1), "[sgd] expects momentum in 0..<1, got 1.0"),
      (SGD(learningRate: 1, nesterov: true), "[sgd] expects momentum > 0 with nesterov, got 0"),
      (SGD(learningRate: 1, weightDecay: -0.1), "[sgd] expects weightDecay ≥ 0, got -0.1"),
      (Adam(learningRate: .infinity), "[adam] expects learningRate ≥ 0, got inf"),
      (Adam(beta1: 1), "[adam] expects beta1 in 0..<1, got 1.0"),
      (Adam(beta2: -0.5), "[adam] expects beta2 in 0..<1, got -0.5"),
      (Adam(epsilon: 0), "[adam] expects epsilon > 0, got 0.0"),
      (Adam(weightDecay: .nan), "[adam] expects weightDecay ≥ 0, got nan"),
    ]
    for (optimizer, message) in cases {
      let error = #expect(throws: SettingsError.self) { try optimizer.validate() }
      #expect(error?.description == message)
    }
  }
}
