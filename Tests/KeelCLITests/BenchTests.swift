import Foundation
import Keel
import Testing

@testable import KeelCLI

extension ToolTests {
  @Suite struct BenchTests {
    @Test func benchOfAStep() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "bench", "step", "--recipe", "mnist-plain", "--batch-size", "8", "--batch-size", "16", "--repeat", "2",
        "--steps", "4", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["steps"] as? [[String: Any]])
      #expect(rows.map { $0["batchSize"] as? Int } == [8, 16])
      for row in rows {
        #expect(row["recipe"] as? String == "mnist-plain")
        #expect(try #require(row["microseconds"] as? Double) > 0)
        #expect(try #require(row["median"] as? Double) >= #require(row["microseconds"] as? Double))
        #expect(try #require(row["launches"] as? Int) > 0)
      }
    }

    @Test func benchOfProducts() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "bench", "gemm", "--shape", "8x16x4", "--shape", "33x5x7", "--transpose", "NN", "--transpose", "TN",
        "--variant", "naive", "--repeat", "3", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let object = try outcome.json()
      // No comparison, no word of it.
      #expect(object["peer"] == nil && object["worstRatio"] == nil)
      #expect(try #require(object["emptyLaunchMicroseconds"] as? Double) > 0)
      let rows = try #require(object["shapes"] as? [[String: Any]])
      #expect(rows.map { $0["m"] as? Int } == [8, 8, 33, 33])
      #expect(rows.map { $0["transposition"] as? String } == ["NN", "TN", "NN", "TN"])
      for row in rows {
        #expect(row["variant"] as? String == "naive")
        // What small products take when they are merged is a figure of its own.
        #expect((row["productsPerLaunch"] == nil) == (row["mergedMicroseconds"] == nil))
        let microseconds = try #require(row["microseconds"] as? Double)
        #expect(try #require(row["median"] as? Double) >= microseconds)
        let (m, n, k) = try (
          #require(row["m"] as? Double), #require(row["n"] as? Double), #require(row["k"] as? Double)
        )
        let gflops = try #require(row["gflops"] as? Double)
        #expect(abs(gflops * microseconds * 1e3 - 2 * m * n * k) < 1e-6 * m * n * k)
        #expect(try #require(row["shareOfRoof"] as? Double) > 0)
      }
    }

    @Test func benchOfBatchNorm() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "bench", "batchnorm", "--shape", "3x16x5x7", "--shape", "40x9", "--variant", "naive", "--repeat", "2", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["rows"] as? [[String: Any]])
      #expect(
        rows.map { $0["name"] as? String } == [
          "forward [3, 16, 5, 7], C first", "backward [3, 16, 5, 7], C first", "forward [3, 5, 7, 16], C last",
          "backward [3, 5, 7, 16], C last", "forward [40, 9], C last", "backward [40, 9], C last",
        ])
      let counts: [Double] = [12 * 1680, 20 * 1680, 12 * 1680, 20 * 1680, 12 * 360, 20 * 360]
      try expectRates(rows, bytes: counts)
      // In one launch, on a CPU, a channel stays in the cache.
      guard try Device.best().kind == .cpu else { return }
      let fused = try tool.run("bench", "batchnorm", "--shape", "40x9", "--repeat", "1", "--json")
      try expectRates(try #require(try fused.json()["rows"] as? [[String: Any]]), bytes: [8 * 360, 12 * 360])
    }

    @Test func benchOfElementwiseWork() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run("bench", "elementwise", "--elements", "2000", "--repeat", "1", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["rows"] as? [[String: Any]])
      let adam = try #require(rows.first { $0["name"] as? String == "Adam of 2,000" })
      let chain = try #require(rows.first { $0["name"] as? String == "relu(a·b + c)" })
      try expectRates([adam, chain], bytes: [28 * 2000, 16 * 2000])
      let sums = try tool.run(
        "bench", "elementwise", "--elements", "2048", "--only", "sum of", "--repeat", "1", "--launches")
      #expect(sums.code == 0, "\(sums.errors)")
      for text in ["sum of rows", "sum of columns", "sum of all", "\n  reduce_"] {
        #expect(sums.output.contains(text), "\(text) in \(sums.output)")
      }
      #expect(!sums.output.contains("Adam"))
    }

    /// The bytes that are counted, and rates that follow from them.
    private func expectRates(_ rows: [[String: Any]], bytes: [Double]) throws {
      #expect(rows.map { $0["bytes"] as? Double } == bytes)
      for row in rows {
        let microseconds = try #require(row["microseconds"] as? Double)
        #expect(try #require(row["median"] as? Double) >= microseconds)
        let (count, rate) = (try #require(row["bytes"] as? Double), try #require(row["gigabytesPerSecond"] as? Double))
        #expect(abs(rate * microseconds * 1e3 - count) < 1e-6 * count)
        let copy = try #require(row["copyGigabytesPerSecond"] as? Double)
        #expect(abs(try #require(row["shareOfCopy"] as? Double) * copy - rate) < 1e-6 * rate)
        // One launch forward writes as much as it reads; the others read more.
        let isEven = row["bytes"] as? Double == 8 * 360
        #expect((row["readGigabytesPerSecond"] == nil) == isEven)
        guard !isEven else { continue }
        let read = try #require(row["readGigabytesPerSecond"] as? Double)
        let apart = try #require(row["apartGigabytesPerSecond"] as? Double)
        #expect(abs(try #require(row["shareOfApart"] as? Double) * apart - rate) < 1e-6 * rate)
        // Between reading alone and a copy, or where a copy reads faster than the probe, above both.
        #expect(apart >= min(read, copy) * (1 - 1e-6))
      }
    }

    @Test func comparisonWithOpenBLAS() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "bench", "gemm", "--compare", "--shape", "8x16x4", "--repeat", "2", "--json", environment: ["KEEL_MERGE": "1"])
      guard (try? OpenBLASPeer(threads: 1)) != nil else {
        // Where it is not installed, the message says what to install.
        #expect(outcome.code == 1)
        #expect(outcome.errors.contains("libopenblas"), "\(outcome.errors)")
        return
      }
      #expect(outcome.code == 0, "\(outcome.errors)")
      let object = try outcome.json()
      let rows = try #require(object["shapes"] as? [[String: Any]])
      let ratios = try rows.map { try #require($0["ratio"] as? Double) }
      #expect(ratios.count == 3)
      #expect(object["worstRatio"] as? Double == ratios.min())
      let mean = try #require(object["geometricMeanRatio"] as? Double)
      #expect(abs(mean - pow(ratios.reduce(1, *), 1.0 / 3)) < 1e-9 * mean)
      #expect(object["worstRatioOfMedians"] is Double && object["geometricMeanRatioOfMedians"] is Double)
      #expect((object["peer"] as? String)?.hasPrefix("OpenBLAS") == true)
      // Single calls, and beside them, on a CPU, what a training step would merge.
      for row in rows {
        let (own, peer) = try (#require(row["microseconds"] as? Double), #require(row["peerMicroseconds"] as? Double))
        #expect(abs(try #require(row["ratio"] as? Double) - peer / own) < 1e-9 * peer / own)
      }
      guard try Device.best().kind == .cpu else { return }
      #expect(rows.allSatisfy { $0["productsPerLaunch"] as? Int == 16 })
      let merged = try rows.map { try #require($0["mergedRatio"] as? Double) }
      #expect(object["worstRatioMerged"] as? Double == merged.min())
      let meanMerged = try #require(object["geometricMeanRatioMerged"] as? Double)
      #expect(abs(meanMerged - pow(merged.reduce(1, *), 1.0 / 3)) < 1e-9 * meanMerged)
    }

    @Test func benchOfScale() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "bench", "scale", "--samples", "300", "--samples", "40", "--run", "200", "--repeat", "2", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["sizes"] as? [[String: Any]])
      #expect(rows.map { $0["samples"] as? Int } == [300, 40])
      #expect(rows.map { $0["epochs"] as? Int } == [1, 5])
      for row in rows {
        let nanoseconds = try #require(row["nanoseconds"] as? Double)
        #expect(try #require(row["median"] as? Double) >= nanoseconds)
        // The steps are a part of the epoch.
        #expect(try #require(row["stepNanoseconds"] as? Double) <= nanoseconds)
      }
      #expect(try rows.map { try #require($0["ratio"] as? Double) }.min() == 1)
    }

    @Test func benchOfStartup() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run("bench", "startup", "--recipe", "mnist-plain", "--repeat", "1", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["startups"] as? [[String: Any]])
      #expect(rows.map { $0["cache"] as? String } == ["cold", "warm"])
      for row in rows {
        let parts = try ["processSeconds", "platformSeconds", "programSeconds", "stepSeconds"].map {
          try #require(row[$0] as? Double)
        }
        #expect(parts.allSatisfy { $0 > 0 })
        #expect(abs(parts.reduce(0, +) - (try #require(row["seconds"] as? Double))) < 1e-9)
      }
      // What is compiled was not there before: the caches are fresh ones.
      let programs = try rows.map { try #require($0["programSeconds"] as? Double) }
      #expect(programs[0] > programs[1])
    }

    /// Nothing is timed where a peer is missing, and the message says what to run.
    @Test func comparisonWithoutPeers() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let scripts = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
        "../../Benchmarks/peers"
      ).standardizedFileURL.path
      var outcome = try tool.run(
        "bench", "--compare", "--peers", scripts, "--python", tool.path("python"), "--part", "steps")
      #expect(outcome.code == 1)
      #expect(outcome.errors.contains("no \(tool.path("python"))"), "\(outcome.errors)")
      #expect(outcome.errors.contains("\(scripts)/setup"))

      // A Python without the modules.
      try tool.write(Array("#!/bin/sh\necho torch jax\n".utf8), to: "python")
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: tool.path("python"))
      outcome = try tool.run(
        "bench", "--compare", "--peers", scripts, "--python", tool.path("python"), "--part", "steps")
      #expect(outcome.code == 1)
      #expect(outcome.errors.contains("torch, jax of \(tool.path("python"))"), "\(outcome.errors)")

      // Products need none of them: what stops these is that there is no such device, or no OpenBLAS.
      outcome = try tool.run(
        "bench", "--compare", "--peers", scripts, "--python", tool.path("python"), "--part", "products", "--device",
        "no such device")
      #expect(outcome.code == 1)
      let hasOpenBLAS = (try? OpenBLASPeer(threads: 1)) != nil
      #expect(
        outcome.errors.contains(
          hasOpenBLAS ? "\"no such device\" is in no device's or platform's name" : "--compare misses\n  OpenBLAS"),
        "\(outcome.errors)")

      outcome = try tool.run("bench", "--compare", "--peers", tool.folder.path)
      #expect(outcome.code == 1)
      #expect(outcome.errors.contains("measure.py"), "\(outcome.errors)")
    }

    /// A program in place of Python that answers as the peers do: with a number that grows by 1 with each job of a
    /// process, after some seconds.
    private func peer(in tool: Tool, seconds: Int = 0) throws {
      try tool.write(Array("# stands for the peers\n".utf8), to: "measure.py")
      let peer = """
        #!/bin/sh
        case "$*" in *find_spec*) exit 0;; esac
        name=${1##*/step_}; name=${name%.py}
        echo "{\\"peer\\": \\"$name 1.0+cpu\\"}"
        n=1000
        while read -r job; do
          [ \(seconds) = 0 ] || exec sleep \(seconds)
          n=$((n + 1)); echo "{\\"microseconds\\": $n}"
        done
        """
      try tool.write(Array(peer.utf8), to: "python")
      try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: tool.path("python"))
    }

    /// The peers' side of the table is what they answer.
    @Test(arguments: ["steps", "evaluation"]) func comparison(of part: String) throws {
      let tool = try Tool()
      defer { tool.remove() }
      try peer(in: tool)
      let outcome = try tool.run(
        "bench", "--compare", "--peers", tool.folder.path, "--python", tool.path("python"), "--part", part,
        "--recipe", "mnist-plain", "--batch-size", "8", "--batch-size", "16", "--steps", "4", "--repeat", "2", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["rows"] as? [[String: Any]])
      #expect(rows.count == 8 && rows.allSatisfy { $0["part"] as? String == part })
      if part == "steps" {
        let work = rows.compactMap { $0["work"] as? String }
        #expect(Set(work) == ["step mnist-plain, batch 8", "step mnist-plain, batch 16"])
      }
      #expect(
        try rows.prefix(4).map { try #require($0["peer"] as? String).split(separator: ",")[0] } == [
          "torch 1.0 eager", "torch 1.0 compile", "jax 1.0 jit", "jax 1.0 scan",
        ])
      // Two jobs of each form choose the number of threads, here the first; then both forms take turns.
      let first = try #require(rows.first)
      let (own, other) = try (#require(first["keel"] as? Double), #require(first["other"] as? Double))
      #expect(other == 1005 && first["otherMedian"] as? Double == 1006)
      #expect(try abs(#require(first["ratio"] as? Double) - other / own) < 1e-9 * other / own)
    }

    @Test func peerThatHangsIsAnError() throws {
      let tool = try Tool()
      defer { tool.remove() }
      try peer(in: tool, seconds: 600)
      let outcome = try tool.run(
        "bench", "--compare", "--peers", tool.folder.path, "--python", tool.path("python"), "--part", "steps",
        "--recipe", "mnist-plain", "--batch-size", "8", "--steps", "4", "--timeout", "0.5")
      #expect(outcome.code == 1)
      #expect(outcome.errors.contains("gave no answer within 0.500 s"), "\(outcome.errors)")
    }

    @Test func benchAloneSaysWhatThereIs() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run("bench")
      #expect(outcome.code == 0)
      #expect(outcome.output.contains("startup") && outcome.output.contains("--compare"))
    }

    /// The peer computes the product that is timed beside it: a wrong stride would be a wrong comparison.
    @Test(arguments: Transposition.allCases) func theSameProduct(_ transposition: Transposition) throws {
      guard let peer = try? OpenBLASPeer(threads: 1) else { return }
      let context = try ComputeContext(Device.best())
      let benchmark = try GemmBenchmark(GemmShape(m: 5, n: 3, k: 7), transposition, forced: nil, on: context)
      _ = try benchmark.seconds(count: 1)
      _ = peer.seconds(benchmark, count: 1)
      let (own, other) = (try benchmark.result(), peer.result(of: benchmark))
      #expect(own.count == 15 && other.count == 15)
      #expect(zip(own, other).allSatisfy { abs($0 - $1) < 1e-5 })
    }
  }
}
