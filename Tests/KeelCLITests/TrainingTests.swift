import Foundation
import Keel
import Testing

@testable import KeelCLI

extension ToolTests {
  /// The built tool, from training to prediction.
  @Suite struct TrainingTests {
    @Test func devices() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run("devices", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let devices = try #require(try outcome.json()["devices"] as? [[String: Any]])
      #expect(!devices.isEmpty)
      #expect(devices.allSatisfy { ($0["device"] as? String)?.isEmpty == false })
      let table = try tool.run("devices").output
      #expect(devices.allSatisfy { table.contains($0["device"] as? String ?? "?") })

      let unknown = try tool.run("devices", environment: ["KEEL_DEVICE": "no such device"])
      #expect(unknown.code == 0)
      #expect(unknown.errors.contains("no such device"))
    }

    @Test func sameSeedSameLosses() throws {
      let tool = try Tool()
      defer { tool.remove() }
      func train(_ seed: String) throws -> [String: Any] {
        let outcome = try tool.run("train", "--epochs", "2", "--seed", seed, "--json")
        #expect(outcome.code == 0, "\(outcome.errors)")
        #expect(!outcome.output.contains("\r") && !outcome.errors.contains("\r"))
        #expect(outcome.output.split(separator: "\n").count == 1)
        return try outcome.json()
      }
      let (first, second, other) = (try train("3"), try train("3"), try train("4"))
      for key in ["trainLoss", "testLoss", "testAccuracy"] {
        let value = try #require(first[key] as? Double)
        #expect(value == second[key] as? Double)
        if key == "trainLoss" { #expect(value != other[key] as? Double) }
      }
      #expect(first["recipe"] as? String == "mnist-bn")
      #expect(first["epochs"] as? Int == 2)
      #expect(first["steps"] as? Int == 90)
      #expect(first["model"] as? String == "keel-mnist-bn.safetensors")
      #expect(try #require(first["testAccuracy"] as? Double) > 0.7)
      #expect(try #require(first["seconds"] as? Double) > 0)
      #expect(try #require(first["microsecondsPerStep"] as? Double) > 0)
      #expect((first["device"] as? String)?.isEmpty == false)
    }

    /// Those of the digits fit into the windows of a stream.
    @Test func streamedSamples() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run("train", "mnist-plain", "--epochs", "1", "--stream", "--out", "streamed.safetensors")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(outcome.output.contains("samples   on the device: the two windows of a stream hold them all"))
      let plain = try tool.run("train", "mnist-plain", "--epochs", "1", "--out", "plain.safetensors")
      #expect(plain.code == 0 && !plain.output.contains("windows"))
      let files = ["streamed", "plain"].map { FileManager.default.contents(atPath: tool.path("\($0).safetensors")) }
      #expect(files[0] != nil && files[0] == files[1])
    }

    @Test func plainLinesInAPipe() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run("train", "mnist-plain", "--epochs", "2", "--out", "plain.safetensors")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(!outcome.output.contains("\r") && !outcome.output.contains("\u{1B}"))
      #expect(outcome.errors.isEmpty)
      let lines = outcome.output.split(separator: "\n")
      #expect(lines.contains { $0.hasPrefix("1/2 ") } && lines.contains { $0.hasPrefix("2/2 ") })
      #expect(lines.last == "saved     plain.safetensors")
      #expect(FileManager.default.fileExists(atPath: tool.path("plain.safetensors")))
    }

    @Test func savedModelIsTheTrainedOne() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let trained = try tool.run("train", "hands-on", "--epochs", "2", "--out", "m.safetensors", "--json")
      #expect(trained.code == 0, "\(trained.errors)")
      let evaluated = try tool.run("evaluate", "m.safetensors", "--json")
      #expect(evaluated.code == 0, "\(evaluated.errors)")
      for key in ["testLoss", "testAccuracy"] {
        #expect(try #require(trained.json()[key] as? Double) == evaluated.json()[key] as? Double)
      }
      #expect(try evaluated.json()["data"] as? String == "digits")
      #expect(try evaluated.json()["count"] as? Int == 360)

      // A test image in three ways: from the data set, as PGM, and as IDX.
      let pixels = try Digits.load().test.rows(7..<8).features.bytes
      try tool.write(Array("P5\n8 8\n16\n".utf8) + pixels, to: "seven.pgm")
      try tool.write(idx([1, 8, 8], pixels), to: "seven.idx")
      func predict(_ arguments: [String]) throws -> [[String: Any]] {
        let outcome = try tool.run(["predict", "m.safetensors", "--json"] + arguments)
        #expect(outcome.code == 0, "\(outcome.errors)")
        return try #require(try outcome.json()["predictions"] as? [[String: Any]])
      }
      let fromData = try predict(["--index", "7", "--index", "0"])
      #expect(fromData.count == 2)
      let fromFiles = try predict(["seven.pgm", "seven.idx", "seven.pgm"])
      #expect(fromFiles.map { $0["image"] as? String } == ["seven.pgm", "seven.idx 0", "seven.pgm"])
      for prediction in fromFiles {
        #expect(prediction["class"] as? Int == fromData[0]["class"] as? Int)
        let difference =
          try #require(prediction["probability"] as? Double) - #require(fromData[0]["probability"] as? Double)
        #expect(abs(difference) < 1e-5)
        #expect((prediction["top"] as? [[String: Any]])?.count == 3)
        #expect(prediction["label"] == nil)
      }
      #expect(try predict([]).count == 10)

      // The share of right answers is the accuracy that evaluation gives.
      let all = try predict((0..<360).flatMap { ["--index", "\($0)"] })
      let right = all.filter { $0["class"] as? Int == $0["label"] as? Int }.count
      let accuracy = try #require(evaluated.json()["testAccuracy"] as? Double)
      #expect(all.count == 360)
      #expect(abs(accuracy - Double(right) / 360) < 1e-9, "\(accuracy), \(right) right")
    }

    @Test func folderOfIDXFiles() throws {
      let tool = try Tool()
      defer { tool.remove() }
      try writeQuartet(tool, "dots")
      let trained = try tool.run("train", "--data", "dots", "--epochs", "30", "--out", "m.safetensors", "--json")
      #expect(trained.code == 0, "\(trained.errors)")
      #expect(try #require(trained.json()["testAccuracy"] as? Double) == 1)
      // From another folder too, the model knows its data.
      try FileManager.default.createDirectory(atPath: tool.path("elsewhere"), withIntermediateDirectories: true)
      let evaluated = try tool.run("evaluate", tool.path("m.safetensors"), "--json")
      #expect(try evaluated.json()["testAccuracy"] as? Double == 1)
      let mnist = try tool.run("train", "--data", "mnist", "--data-dir", "dots", "--epochs", "1", "--json")
      #expect(mnist.code == 0, "\(mnist.errors)")

      try FileManager.default.removeItem(atPath: tool.path("dots"))
      let gone = try tool.run("evaluate", "m.safetensors")
      #expect(gone.code == 1)
      #expect(gone.errors.contains("which is not there"))
    }

    @Test func interruptedTrainingIsSaved() throws {
      for signal in [SIGINT, SIGTERM] {
        let tool = try Tool()
        defer { tool.remove() }
        let running = try Tool.Running(tool, ["train", "--epochs", "1000000", "--out", "m.safetensors"])
        let seen = running.waitForOutput("\n2/1000000")
        kill(running.process.processIdentifier, signal)
        let outcome = running.wait()
        #expect(outcome.exited)
        #expect(outcome.code == 130, "\(outcome.errors)")
        #expect(outcome.errors.contains("interrupted; saved m.safetensors"))
        #expect((seen + outcome.output).contains("saved     m.safetensors"))
        let evaluated = try tool.run("evaluate", "m.safetensors", "--json")
        #expect(try #require(evaluated.json()["testAccuracy"] as? Double) > 0.5)
      }
    }

    @Test func readerThatGoesAwayEndsTraining() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let running = try Tool.Running(tool, ["train", "--epochs", "1000000"], closesOutput: true)
      let outcome = running.wait(readsOutput: false)
      #expect(outcome.exited)
      #expect(outcome.code == 141)
    }

    /// As after Ctrl-C: the model is as it was before the step.
    @Test func divergedTrainingSavesWhatItHad() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "train", "mnist-plain", "--learning-rate", "1e30", "--epochs", "5", "--out", "m.safetensors", "--json")
      #expect(outcome.code == 1)
      #expect(outcome.errors.contains("error: [train] diverged"))
      #expect(outcome.errors.contains("is saved in m.safetensors"), "\(outcome.errors)")
      let object = try outcome.json()
      #expect(object["trainLoss"] is NSNull)
      #expect(object["model"] as? String == "m.safetensors")
      let state = try SavedModel(reading: tool.path("m.safetensors")).model.state
      #expect(state.count == 6 && state.allSatisfy { $0.value.doubles.allSatisfy(\.isFinite) })
    }

    @Test func profileOfAStep() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "train", "mnist-plain", "--epochs", "1", "--out", "m.safetensors", "--profile", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      #expect(outcome.errors.contains("GFLOP/s") && outcome.errors.contains("trace in m.trace.json"))
      let data = try Data(contentsOf: URL(fileURLWithPath: tool.path("m.trace.json")))
      let trace = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
      let events = try #require(trace["traceEvents"] as? [[String: Any]])
      let steps = Set(events.compactMap { ($0["args"] as? [String: Any])?["run"] as? Int })
      #expect(steps == Set(0..<44) && events.count % 44 == 0)
      #expect(events.allSatisfy { $0["ph"] as? String == "X" && ($0["dur"] as? Double ?? -1) >= 0 })
      // In an in-order queue a launch begins when the one before has ended.
      let starts = events.compactMap { $0["ts"] as? Double }
      #expect(starts.count == events.count && starts == starts.sorted())
    }
  }
}
