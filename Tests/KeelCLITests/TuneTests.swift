import Foundation
import Keel
import Testing

@testable import KeelCLI

extension ToolTests {
  @Suite struct TuneTests {
    @Test func productIsTunedListedAndForgotten() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let environment = ["KEEL_TUNE_DIR": tool.path("tune")]
      // Where a slow variant is what is used now, tuning finds a faster one.
      let device = try Device.best()
      let problem = GemmProblem(m: 48, n: 64, k: 96)
      let database = TuningDatabase(environment: environment)
      try database.add([
        TuningDatabase.Entry(
          key: problem.key, variant: "naive", against: "direct", ratio: 1, device: device,
          kernels: try TuningDatabase.kernels())
      ])
      var outcome = try tool.run(
        "tune", "--shape", "48x64x96", "--repeat", "3", "--device", device.name, "--json", environment: environment)
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["problems"] as? [[String: Any]])
      let row = try #require(rows.first)
      #expect(rows.count == 1 && row["bucket"] as? String == "f32 64×64×128 NN")
      #expect(row["current"] as? String == "naive")
      let best = try #require(row["best"] as? String)
      #expect(best != "naive")
      #expect(try #require(row["microseconds"] as? Double) > #require(row["bestMicroseconds"] as? Double))
      #expect(database.read().entries.map(\.variant) == [best])
      let candidates = try #require(row["candidates"] as? [[String: Any]])
      let chosen = try #require(candidates.first { $0["variant"] as? String == best })
      #expect(chosen["verdict"] as? String == "faster" && chosen["ratio"] is Double)
      for candidate in candidates {
        // Only what was timed has a ratio.
        let wasTimed = ["faster", "slower"].contains(candidate["verdict"] as? String)
        #expect(wasTimed == (candidate["ratio"] is Double), "\(candidate)")
      }

      outcome = try tool.run("tune", "--list", environment: environment)
      #expect(outcome.code == 0)
      #expect(outcome.output.contains("f32 64×64×128 NN") && outcome.output.contains(best), "\(outcome.output)")
      // That it is in use is said.
      let file = tool.path("tune/variants.jsonl")
      outcome = try tool.run("devices", environment: environment)
      #expect(outcome.output.contains("1 choice in \(file)"), "\(outcome.output)")
      outcome = try tool.run(
        "train", "mnist-plain", "--epochs", "1", "--device", device.name,
        environment: environment.merging(["KEEL_DEBUG": "1"]) { $1 })
      #expect(outcome.output.contains("1 choice of kernels in \(file)"), "\(outcome.output)")
      #expect(outcome.errors.contains("1 tuned choice of \(file) in use"))
      outcome = try tool.run("tune", "--clear", environment: environment)
      #expect(outcome.code == 0)
      #expect(database.read().entries.isEmpty)
      #expect(try tool.run("devices", environment: environment).output.contains("no choices"))
    }

    /// What disagrees with the plain kernel is not chosen, however fast it is; here the plain one is made wrong.
    @Test func disagreementIsNotChosen() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Kernels")
        .standardizedFileURL
      let kernels = URL(fileURLWithPath: tool.path("Kernels"))
      try FileManager.default.copyItem(at: source, to: kernels)
      let file = kernels.appendingPathComponent("gemm/gemm_naive.cl")
      let text = try String(contentsOf: file, encoding: .utf8)
      let broken = text.replacingOccurrences(of: "C[full] = value;", with: "C[full] = value * (REAL)1.01;")
      try #require(broken != text)
      try Data(broken.utf8).write(to: file)
      let outcome = try tool.run(
        "tune", "--shape", "24x24x24", "--repeat", "1", "--json",
        environment: [
          "KEEL_TUNE_DIR": tool.path("tune"), "KEEL_KERNELS_DIR": kernels.path, "KEEL_CACHE_DIR": tool.path("cache"),
        ])
      #expect(outcome.code == 1, "\(outcome.errors)")
      let row = try #require((try outcome.json()["problems"] as? [[String: Any]])?.first)
      let (current, best) = (row["current"] as? String, row["best"] as? String)
      #expect(best == current || best == "naive")
      let candidates = try #require(row["candidates"] as? [[String: Any]])
      let others = candidates.filter { $0["variant"] as? String != "naive" }
      #expect(others.contains { $0["variant"] as? String == current })
      #expect(others.allSatisfy { ($0["fault"] as? String)?.contains("result 0 has") == true }, "\(candidates)")
      #expect(others.allSatisfy { $0["verdict"] as? String == "wrong" }, "\(candidates)")
    }

    @Test func stepIsTunedAsAWhole() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "tune", "--recipe", "mnist-plain", "--batch-size", "8", "--repeat", "1", "--json",
        environment: ["KEEL_TUNE_DIR": tool.path("tune")])
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["problems"] as? [[String: Any]])
      let keys = rows.map { "\($0["family"] ?? "") \($0["bucket"] ?? "")" }
      #expect(Set(keys).count == keys.count)
      #expect(keys.contains("gemm f32 8×32×1024 NN"), "\(keys)")
    }

    @Test func oneThingAtATime() throws {
      let tool = try Tool()
      defer { tool.remove() }
      for arguments in [["tune"], ["tune", "--list", "--clear"], ["tune", "--shape", "1x1x1", "--list"]] {
        let outcome = try tool.run(arguments, environment: ["KEEL_TUNE_DIR": tool.path("tune")])
        #expect(outcome.code == 64, "\(arguments)")
      }
    }
  }
}
