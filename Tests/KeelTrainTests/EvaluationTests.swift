import KeelCL
import KeelCore
import KeelNN
import KeelRuntime
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// `evaluate` and `predict`.
  @Suite struct Evaluations {
    /// A network that has learnt a little, so that its running statistics are not the first ones.
    private func trained(_ dtype: DType = .float32, options: Executable.Options = .environment) throws -> Trainer {
      let trainer = try Trainer(
        network(), loss: .softmaxCrossEntropy, optimizer: Adam(learningRate: 0.01), on: TrainingTests.device(),
        dtype: dtype, seed: 2, options: options)
      try trainer.fit(clusters(150), epochs: 2, batchSize: 32)
      return trainer
    }

    @Test func nothingChanges() throws {
      let trainer = try trained()
      let (host, device) = (trainer.model.bits, try trainer.deviceBits())
      let first = try trainer.evaluate(clusters(70))
      #expect(try trainer.evaluate(clusters(70), batchSize: 32).accuracy == first.accuracy)
      _ = try trainer.predict(clusters(70).features)
      #expect(try trainer.evaluate(clusters(70)) == first)
      #expect(changed(host, trainer.model.bits) == [])
      #expect(changed(device, try trainer.deviceBits()) == [])
      #expect(trainer.step == 10)
    }

    @Test func validationIsEvaluation() throws {
      let trainer = try trained()
      let test = try clusters(70, seed: 3)
      let history = try trainer.fit(clusters(150), epochs: 2, batchSize: 32, validation: test)
      #expect(history.epochs.last?.validation == (try trainer.evaluate(test)))
      #expect(history.epochs[0].validation != history.epochs[1].validation)
      // Validation moves nothing: without it training goes the same way.
      let without = try trained()
      try without.fit(clusters(150), epochs: 2, batchSize: 32)
      #expect(changed(trainer.model.bits, without.model.bits) == [])
    }

    /// More batches than are in a launch, where a launch may have many.
    @Test func manyBatches() throws {
      var options = Executable.Options()
      options.merges = true
      let trainer = try trained(options: options)
      let data = try clusters(2 * 130 + 1, seed: 6)
      let (all, pairs) = (try trainer.evaluate(data), try trainer.evaluate(data, batchSize: 2))
      #expect(pairs.count == 261 && pairs.accuracy == all.accuracy)
      #expect(abs(pairs.loss - all.loss) < 1e-6)
      let prepared = try trainer.prepareEvaluation(data, batchSize: 2, .resident)
      #expect(prepared.bursts == [[[64, 0], [64, 0], [2, 1]]])
      #expect(try trainer.evaluate(prepared) == pairs)
    }

    @Test func singleSamples() throws {
      let trainer = try trained()
      let data = try clusters(9, seed: 6)
      let all = try trainer.evaluate(data)
      let each = try (0..<9).map { try trainer.evaluate(data.rows($0..<$0 + 1)) }
      #expect(each.allSatisfy { $0.count == 1 && ($0.accuracy == 0 || $0.accuracy == 1) })
      #expect(abs(each.reduce(0) { $0 + $1.loss } / 9 - all.loss) < 1e-6)
      #expect(each.reduce(0) { $0 + ($1.accuracy ?? 0) } == (all.accuracy ?? 0) * 9)
    }

    /// The formula of evaluation, on the host: y = γ(x − μ_r)/√(σ²_r + ε) + β.
    @Test func predictionsAreThoseOfTheFormula() throws {
      guard TrainingTests.has(try TrainingTests.device(), .float64, "predictions by formula") else { return }
      let trainer = try trained(.float64)
      let values = Dictionary(uniqueKeysWithValues: trainer.model.state.map { ($0.name, $0.value.doubles) })
      func value(_ name: String) throws -> [Double] { try #require(values[name]) }
      let data = try clusters(5, seed: 8)
      let x = data.features.doubles.map { $0 * 0.5 }
      let hidden = try product(x, value("layers.0.weight"), rows: 5, inner: 8, columns: 16)
      let (mean, variance) = (try value("layers.1.runningMean"), try value("layers.1.runningVariance"))
      let (scale, shift) = (try value("layers.1.scale"), try value("layers.1.shift"))
      #expect(zip(mean, variance).allSatisfy { $0 != 0 && $1 != 1 })
      let active = hidden.enumerated().map { index, h in
        let c = index % 16
        return max(0, scale[c] * (h - mean[c]) / (variance[c] + 1e-5).squareRoot() + shift[c])
      }
      let bias = try value("layers.3.bias")
      let outputs = try product(active, value("layers.3.weight"), rows: 5, inner: 16, columns: 4).enumerated().map {
        $1 + bias[$0 % 4]
      }
      let predicted = try trainer.predict(data.features, scale: 0.5)
      #expect(predicted.type == TensorType([5, 4], .float64))
      #expect(departure(predicted.doubles, outputs) < 1e-12)
    }

    private func product(_ a: [Double], _ b: [Double], rows: Int, inner: Int, columns: Int) -> [Double] {
      (0..<rows * columns).map { index in
        let (row, column) = (index / columns, index % columns)
        return (0..<inner).reduce(0) { $0 + a[row * inner + $1] * b[$1 * columns + column] }
      }
    }

    @Test func predictionsHitAsEvaluationSays() throws {
      let digits = try Digits.load()
      let trainer = try Trainer(
        Recipe.mnistBN.network(inputs: 64, classes: 10), loss: .softmaxCrossEntropy,
        optimizer: Recipe.mnistBN.optimizer, on: TrainingTests.device())
      try trainer.fit(digits.train, epochs: 1, batchSize: 32)
      let evaluation = try trainer.evaluate(digits.test)
      let outputs = try trainer.predict(digits.test.features, scale: digits.test.scale)
      #expect(outputs.type == TensorType([360, 10], .float32))
      let values = outputs.doubles
      let hits = digits.test.targets.doubles.enumerated().count { row, label in
        let scores = values[row * 10..<row * 10 + 10]
        return scores.firstIndex(of: scores.max() ?? .nan) == row * 10 + Int(label)
      }
      #expect(Double(hits) / 360 == evaluation.accuracy)
      #expect((evaluation.accuracy ?? 0) > 0.8)

      for batchSize in [7, 359] {
        let batched = try trainer.predict(digits.test.features, scale: digits.test.scale, batchSize: batchSize)
        #expect(batched.type == outputs.type && departure(batched.doubles, values) < 2e-6, "batches of \(batchSize)")
      }
      #expect(try trainer.predict(digits.test.features, scale: digits.test.scale) == outputs)
      // Samples as real numbers that are scaled already.
      let scaled = try HostTensor(
        TensorType(digits.test.features.shape, .float32), values: digits.test.features.doubles.map { $0 / 16 })
      #expect(departure(try trainer.predict(scaled).doubles, values) < 2e-6)
    }

    /// Full batches and the short last one do not drive each other out.
    @Test func compilesOnce() throws {
      let trainer = try trained()
      let data = try clusters(20)
      let before = trainer.compilations
      let outputs = try trainer.predict(data.features, batchSize: 8)
      #expect(trainer.compilations == before + 2)
      #expect(try trainer.predict(data.features, batchSize: 8) == outputs)
      #expect(try trainer.predict(clusters(12).features, batchSize: 8).shape == [12, 4])
      #expect(trainer.compilations == before + 2)

      let evaluation = try trainer.evaluate(data, batchSize: 8)
      #expect(trainer.compilations == before + 4)
      #expect(try trainer.evaluate(data, batchSize: 8) == evaluation)
      #expect(trainer.compilations == before + 4)
    }

    @Test func samplesThatDoNotFit() throws {
      let trainer = try trained()
      let wrong = HostTensor(zeros: TensorType([3, 7], .float32))
      #expect(
        message { try trainer.predict(wrong) }
          == "[linear] layers.0: expects 8 features on the last axis, got [3, 7]")
      #expect(
        message { try trainer.predict(HostTensor(zeros: TensorType([8], .float32))) }
          == "[train] expects samples [n, …] and a batch size above 0, got f32[8] and 1000")
      #expect(
        message { try trainer.predict(HostTensor(zeros: TensorType([0, 8], .float32))) }
          == "[train] expects samples [n, …] and a batch size above 0, got f32[0, 8] and 1000")
      #expect(
        message { try trainer.predict(clusters(4).features, batchSize: 0) }
          == "[train] expects samples [n, …] and a batch size above 0, got f32[4, 8] and 0")
      #expect(
        message { try trainer.evaluate(clusters(4), batchSize: -1) } == "[train] expects a batch size above 0, got -1")
      #expect(
        message { try trainer.evaluate(clusters(4, features: 9)) }
          == "[linear] layers.0: expects 8 features on the last axis, got [4, 9]")
      // A failed call leaves the trainer as it was.
      #expect(try trainer.predict(clusters(4).features).shape == [4, 4])
    }

    @Test func layersWithoutVariables() throws {
      let trainer = try Trainer(
        ReLU(), loss: .meanSquaredError, optimizer: SGD(learningRate: 0.1), on: TrainingTests.device())
      let x = try HostTensor([2, 2], [Float(-1), 2, 0, -3])
      #expect(try trainer.predict(x).floats == [0, 2, 0, 0])
    }
  }
}
