import Foundation
import Keel
import Testing

@testable import KeelCLI

extension ToolTests {
  /// `keel recalibrate` and `keel fold` on a model that `keel train` saved.
  @Suite struct ChangedModelTests {
    private let tool: Tool

    init() throws {
      tool = try Tool()
      try writeQuartet(tool, "dots")
      let outcome = try tool.run(
        "train", "--data", "dots", "--epochs", "2", "--batch-size", "16", "--out", "m.safetensors")
      try #require(outcome.code == 0, "\(outcome.errors)")
    }

    private func bytes(_ name: String) throws -> Data { try Data(contentsOf: tool.folder.appendingPathComponent(name)) }

    @Test func recalibrates() throws {
      defer { tool.remove() }
      let original = try bytes("m.safetensors")
      for mode in ["exact", "average"] {
        let outcome = try tool.run("recalibrate", "m.safetensors", "--mode", mode, "--batch-size", "16", "--json")
        #expect(outcome.code == 0, "\(outcome.errors)")
        let report = try outcome.json()
        #expect(report["mode"] as? String == mode)
        #expect(report["samples"] as? Int == 60)
        #expect(report["batches"] as? Int == 4)
        let layers = try #require(report["layers"] as? [[String: Any]])
        #expect(layers.compactMap { $0["path"] as? String } == ["layers.2", "layers.5"])
        let evaluation = try #require(report["evaluation"] as? [String: Any])
        for side in ["before", "after"] {
          let figures = try #require(evaluation[side] as? [String: Any])
          #expect(figures["testLoss"] is Double)
          #expect(figures["testAccuracy"] is Double)
        }
        #expect(report["out"] as? String == "m-recalibrated.safetensors")
        #expect(try bytes("m.safetensors") == original)
        #expect(try bytes("m-recalibrated.safetensors") != original)
        // The new file is a model, and the figures are its own.
        let evaluated = try tool.run("evaluate", "m-recalibrated.safetensors", "--json").json()
        let after = (evaluation["after"] as? [String: Any])?["testLoss"] as? Double
        #expect(evaluated["testLoss"] as? Double == after)
      }
    }

    @Test func folds() throws {
      defer { tool.remove() }
      let original = try bytes("m.safetensors")
      let outcome = try tool.run("fold", "m.safetensors", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let report = try outcome.json()
      let layers = try #require(report["layers"] as? [[String: Any]])
      #expect(layers.compactMap { $0["into"] as? String } == ["layers.1", "layers.4"])
      #expect(try #require(report["departure"] as? Double) < 1e-6)
      #expect(try bytes("m.safetensors") == original)
      let evaluated = try tool.run("evaluate", "m-folded.safetensors", "--json").json()
      let after = (report["evaluation"] as? [String: Any])?["after"] as? [String: Any]
      #expect(evaluated["testLoss"] as? Double == after?["testLoss"] as? Double)

      // Nothing is left to fold or to recalibrate.
      let again = try tool.run("fold", "m-folded.safetensors", "--out", "x.safetensors")
      #expect(again.code == 1)
      #expect(again.errors.contains("[fold] expects a network with batch norm, got none"), "\(again.errors)")
      #expect(!FileManager.default.fileExists(atPath: tool.path("x.safetensors")))
      let plain = try tool.run("recalibrate", "m-folded.safetensors")
      #expect(plain.code == 1)
      #expect(plain.errors.contains("expects a network with running statistics, got none"), "\(plain.errors)")
    }

    /// What was learnt in double precision is evaluated in it.
    @Test func valuesKeepTheirType() throws {
      defer { tool.remove() }
      let device = try Device.select()
      guard device.hasFP64 else { return print("skipped: \(device.name) has no double precision") }
      for dtype in [DType.float32, .float64] {
        let model = Model(Linear(16, 10))
        let trainer = try Trainer(model, loss: .softmaxCrossEntropy, optimizer: Adam(), on: device, dtype: dtype)
        // 0.1 is no number of single precision.
        let state = try model.state.map { name, value in
          (name, try HostTensor(value.type, values: Array(repeating: 0.1, count: value.type.count)))
        }
        try model.load(Dictionary(uniqueKeysWithValues: state))
        let description = SavedModel.Description(
          network: try #require(model.configuration), loss: .softmaxCrossEntropy, sampleShape: [16], scale: 1,
          classCount: 10, data: "dots")
        try SavedModel(model, description).write(to: tool.path("typed.safetensors"))
        let x = try HostTensor(TensorType([2, 16], .uint8), values: (0..<32).map { Double($0) })
        let outputs = try ModelFile(tool.path("typed.safetensors")).trainer(on: device).predict(x)
        #expect(outputs == (try trainer.predict(x)) && outputs.dtype == dtype)
        // Sums of 0…15 and 16…31, by 0.1, and the bias.
        let tolerance = dtype == .float64 ? 1e-12 : 1e-4
        for (row, sum) in [120.0, 376].enumerated() {
          let values = outputs.doubles[row * 10..<row * 10 + 10]
          #expect(values.allSatisfy { abs($0 - (0.1 * sum + 0.1)) < tolerance }, "\(dtype): \(values)")
        }
      }
    }

    @Test func replacesTheModelOnlyWhenAskedTo() throws {
      defer { tool.remove() }
      let original = try bytes("m.safetensors")
      let outcome = try tool.run("fold", "m.safetensors", "--out", "m.safetensors")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(outcome.output.contains("layers.2: folded into layers.1 before it"))
      #expect(try bytes("m.safetensors") != original)
      #expect(!FileManager.default.fileExists(atPath: tool.path("m-folded.safetensors")))
    }

    @Test func saysWhatCannotBe() throws {
      defer { tool.remove() }
      for (arguments, code, words) in [
        (["fold", "missing.safetensors"], 1, "missing.safetensors"),
        (["recalibrate", "m.safetensors", "--mode", "best"], 64, "--mode"),
        (["recalibrate", "m.safetensors", "--batch-size", "1"], 64, "--batch-size expects 2 or more, got 1"),
        (["recalibrate", "m.safetensors", "--batch-size", "59"], 1, "the last batch has 1 sample"),
        (["recalibrate", "m.safetensors", "--data", "digits"], 1, "expects samples of 4×4"),
        (["fold", "m.safetensors", "--out", "missing/x"], 1, "there is no folder"),
      ] as [([String], Int32, String)] {
        let outcome = try tool.run(arguments)
        #expect(outcome.code == code, "\(arguments): \(outcome.errors)")
        #expect(outcome.output.isEmpty)
        #expect(outcome.errors.contains(words), "\(arguments): \(outcome.errors)")
      }
    }
  }
}
