import Foundation
import Keel
import Testing

@testable import KeelCLI

@Suite struct TrainingReportTests {
  /// What the trainer gives; from the outside there is no way to it but decoding.
  private func epoch(
    _ number: Int, loss: Double = 0.5, test: Double? = 0.25, seconds: Double = 0.001
  ) throws -> History.Epoch {
    func json(_ value: Double) -> String { value.isFinite ? "\(value)" : "\"\(value)\"" }
    let validation = test.map { #", "validation": {"loss": \#(json($0)), "accuracy": 0.875, "count": 8}"# } ?? ""
    let text = #"""
      {"number": \#(number), "trainLoss": \#(json(loss)), "trainAccuracy": 0.75, "trainSeconds": \#(seconds),
      "stepLosses": [\#(json(loss)), \#(json(loss))]\#(validation)}
      """#
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = .convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try decoder.decode(History.Epoch.self, from: Data(text.utf8))
  }

  private func report(_ epochs: [History.Epoch], model: String? = nil) throws -> TrainingReport {
    var history = try JSONDecoder().decode(History.self, from: Data(#"{"epochs": []}"#.utf8))
    history.epochs = epochs
    return TrainingReport(
      TrainingReport.Job(
        recipe: .handsOn, device: "a device", data: "digits", batchSize: 32, learningRate: 0.01, seed: 7),
      history, updates: 2 * epochs.count, seconds: 2, compileSeconds: 1, model: model, interrupted: false)
  }

  private func object(_ report: TrainingReport) throws -> [String: Any] {
    let value = try JSONSerialization.jsonObject(with: JSONEncoder().encode(report))
    return try #require(value as? [String: Any])
  }

  @Test func json() throws {
    let report = try report(
      [epoch(1, seconds: 0.009), epoch(2, seconds: 0.002), epoch(3, seconds: 0.004)], model: "m.safetensors")
    let object = try object(report)
    #expect(object["recipe"] as? String == "hands-on")
    #expect(object["device"] as? String == "a device")
    #expect(object["epochs"] as? Int == 3)
    #expect(object["steps"] as? Int == 6)
    #expect(object["trainLoss"] as? Double == 0.5)
    #expect(object["testLoss"] as? Double == 0.25)
    #expect(object["testAccuracy"] as? Double == 0.875)
    #expect(object["seconds"] as? Double == 2)
    #expect(object["microsecondsPerStep"] as? Double == 2500)
    #expect(object["microsecondsPerStepMedian"] as? Double == 2000)
    #expect(object["seed"] as? Int == 7)
    #expect(object["model"] as? String == "m.safetensors")
    #expect((object["history"] as? [[String: Any]])?.count == 3)
    #expect(object["divergence"] == nil)
    #expect(report.divergence == nil)
  }

  @Test func lossesThatAreNoNumbers() throws {
    let report = try report([epoch(1, loss: .nan, test: .infinity)])
    let object = try object(report)
    #expect(object["trainLoss"] is NSNull)
    #expect(object["testLoss"] is NSNull)
    #expect(report.divergence?.contains("no step of epoch 1 had a loss that is finite") == true)
    // That may be the test samples' fault, and is not called divergence.
    let text = try #require(try self.report([epoch(2, test: .infinity)]).divergence)
    #expect(text.contains("the test loss of epoch 2 is infinite") && !text.contains("diverged"))
    #expect(report.table.contains("loss nan"))
  }

  @Test func nothingTrained() throws {
    let report = try report([])
    let object = try object(report)
    #expect(object["steps"] as? Int == 0)
    #expect(object["trainLoss"] is NSNull)
    #expect(object["microsecondsPerStepMedian"] is NSNull)
    #expect(report.divergence == nil)
  }

  @Test func epochWithoutTestIsNoDivergence() throws { #expect(try report([epoch(1, test: nil)]).divergence == nil) }

  @Test func linesStandUnderTheirHeader() throws {
    let lines = try [epoch(1), epoch(10, loss: 123456, test: nil), epoch(7, loss: 1e-5)].map {
      EpochTable.line($0, of: 10)
    }
    for line in lines { #expect(line.count == EpochTable.header.count, "\(line)") }
    #expect(lines[0] == "1/10           0.5000    0.7500      0.2500    0.8750   1.00 ms")
  }
}
