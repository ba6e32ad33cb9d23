import KeelCL
import KeelCore
import KeelNN
import KeelRuntime
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// What a trainer refuses, and in what words.
  @Suite struct Refusals {
    private func trainer(
      _ layer: any Layer = network(), _ loss: Loss = .softmaxCrossEntropy,
      _ optimizer: any KeelNN.Optimizer = Adam(), dtype: DType = .float32,
      options: Executable.Options = .environment
    ) throws -> Trainer {
      try Trainer(layer, loss: loss, optimizer: optimizer, on: TrainingTests.device(), dtype: dtype, options: options)
    }

    static let settings: [(any KeelNN.Optimizer, String)] = [
      (SGD(learningRate: -0.1), "[sgd] expects learningRate ≥ 0, got -0.1"),
      (SGD(learningRate: .infinity), "[sgd] expects learningRate ≥ 0, got inf"),
      (SGD(learningRate: 0.1, momentum: 1), "[sgd] expects momentum in 0..<1, got 1.0"),
      (SGD(learningRate: 0.1, nesterov: true), "[sgd] expects momentum > 0 with nesterov, got 0"),
      (SGD(learningRate: 0.1, weightDecay: -1), "[sgd] expects weightDecay ≥ 0, got -1.0"),
      (Adam(learningRate: .nan), "[adam] expects learningRate ≥ 0, got nan"),
      (Adam(beta1: 1), "[adam] expects beta1 in 0..<1, got 1.0"),
      (Adam(beta2: -0.5), "[adam] expects beta2 in 0..<1, got -0.5"),
      (Adam(epsilon: 0), "[adam] expects epsilon > 0, got 0.0"),
    ]

    @Test(arguments: settings.indices) func optimizerSettings(index: Int) {
      let (optimizer, expected) = Self.settings[index]
      #expect(message { try trainer(network(), .softmaxCrossEntropy, optimizer) } == expected)
    }

    @Test func sizes() throws {
      let (trainer, data) = (try trainer(), try clusters(20))
      #expect(
        message { try trainer.fit(data, epochs: 1, batchSize: 0) } == "[train] expects a batch size above 0, got 0")
      #expect(
        message { try trainer.fit(data, epochs: 1, batchSize: -32) } == "[train] expects a batch size above 0, got -32")
      #expect(
        message { try trainer.fit(data, epochs: -1, batchSize: 8) } == "[train] expects 0 or more epochs, got -1")
      #expect(trainer.step == 0)
    }

    @Test func elementTypes() {
      for dtype in [DType.int32, .uint8, .float16, .bfloat16] {
        #expect(message { try trainer(dtype: dtype) } == "[train] expects f32 or f64, got \(dtype)")
      }
    }

    @Test func classesThatTheNetworkHasNoOutputFor() throws {
      let trainer = try trainer(network(8, 4))
      let data = try clusters(20, classes: 12)
      let expected = "[train] network gives 4 outputs, data has 12 classes"
      #expect(message { try trainer.fit(data, epochs: 1, batchSize: 8) } == expected)
      #expect(message { try trainer.evaluate(data) } == expected)
      #expect(message { try trainer.fit(clusters(20), epochs: 1, batchSize: 8, validation: data) } == expected)
      #expect(trainer.step == 0)
      // A network made for more classes than these data have is none the worse.
      #expect(try trainer.fit(clusters(20, classes: 3), epochs: 1, batchSize: 8).steps == 3)
    }

    @Test func outputsThatAreNoRowOfScores() throws {
      let data = try Dataset(
        name: "images", features: HostTensor(zeros: TensorType([6, 2, 8], .float32)),
        labels: HostTensor([6], [Int32](repeating: 1, count: 6)), classCount: 4)
      #expect(
        message { try trainer(Linear(8, 4)).fit(data, epochs: 1, batchSize: 2) }
          == "[train] network gives [2, 4] outputs, data has 4 classes")
    }

    @Test func targetsOfAnotherKind() throws {
      let regression = try Dataset(
        name: "map", features: HostTensor(zeros: TensorType([6, 8], .float32)),
        targets: HostTensor(zeros: TensorType([6, 3], .float32)))
      #expect(
        message { try trainer(Linear(8, 2), .meanSquaredError).fit(regression, epochs: 1, batchSize: 2) }
          == "[train] network gives outputs [2], data has targets [3]")
      #expect(
        message { try trainer(Linear(8, 3)).fit(regression, epochs: 1, batchSize: 2) }
          == "[train] softmaxCrossEntropy expects class labels, data has targets f32[6, 3]")
      #expect(
        message { try trainer(Linear(8, 3), .meanSquaredError).evaluate(clusters(6)) }
          == "[train] meanSquaredError expects targets of shape [3], data has labels of 4 classes")
      // [N] and [N, 1] would broadcast to [N, N].
      let flat = try Dataset(
        name: "map", features: HostTensor(zeros: TensorType([6, 8], .float32)),
        targets: HostTensor(zeros: TensorType([6], .float32)))
      #expect(
        message { try trainer(Linear(8, 1), .meanSquaredError).fit(flat, epochs: 1, batchSize: 2) }
          == "[train] network gives outputs [1], data has targets []")
    }

    @Test func samplesThatALayerDoesNotTake() throws {
      let trainer = try trainer()
      let wide = try clusters(20, features: 9)
      let expected = "[linear] layers.0: expects 8 features on the last axis, got "
      #expect(message { try trainer.fit(wide, epochs: 1, batchSize: 6) } == expected + "[6, 9]")
      #expect(message { try trainer.evaluate(wide) } == expected + "[20, 9]")
      #expect(
        message { try trainer.fit(clusters(20), epochs: 1, batchSize: 8, validation: wide) } == expected + "[20, 9]")
      let inner = Sequential {
        Linear(8, 16)
        BatchNorm(17)
      }
      #expect(
        message { try self.trainer(inner).fit(clusters(20), epochs: 1, batchSize: 8) }
          == "[batchNorm] layers.1: expects 17 channels on axis 1, got [8, 16]")
    }

    @Test func layersThatCannotBe() {
      #expect(
        message { try trainer(Linear(8, 0)) } == "[initializer] weight: expects positive extents, got [8, 0]")
      #expect(
        message { try trainer(Linear(1 << 40, 1 << 40)) }
          == "[initializer] weight: expects at most 2147483647 elements, got [1099511627776, 1099511627776]")
    }

    @Test func valuesOfAnotherShape() throws {
      let model = Model(Linear(8, 4))
      model.parameters[0].value = HostTensor(zeros: TensorType([8, 5], .float32))
      #expect(
        message { try Trainer(model, loss: .softmaxCrossEntropy, optimizer: Adam(), on: TrainingTests.device()) }
          == "[initialize] weight: expects a value of shape [8, 4], got f32[8, 5]")
      let trainer = try trainer(Linear(8, 4))
      trainer.model.parameters[1].value = HostTensor(zeros: TensorType([5], .float32))
      #expect(
        message { try trainer.evaluate(clusters(4)) } == "[variables] bias expects f32[4], got f32[5]")
    }

    @Test func variantsThatThereAreNot() throws {
      var options = Executable.Options()
      options.variants = ["gemm": "no-such-variant"]
      let trainer = try trainer(options: options)
      let error = message { try trainer.fit(clusters(20), epochs: 1, batchSize: 8) }
      #expect(error.hasPrefix("[matMul] layers.0: ") && error.contains("no-such-variant"))
    }
  }
}
