/* SPDX-License-Identifier: Apache-2.0
 *
 * edgekit.runtime._native: the C runtime for Python. Each method fills the C structs, calls C
 * and raises what C reports; shapes, names and batches are the business of edgekit/runtime/.
 * look and count serve edgekit/calibrate/.
 */
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "edgekit/edgekit.h"
#include "edgekit/edgekit_cpu.h"
#include "edgekit/edgekit_threads.h"
#include "observe.h"
#include "storage.h"

namespace py = pybind11;

namespace {

constexpr ek_kernels last_kernel_bit = 0x40000000u;

[[noreturn]] void raise(const char *type, const std::string &message) {
    const py::object error = py::module_::import("edgekit.errors").attr(type);
    PyErr_SetString(error.ptr(), message.c_str());
    throw py::error_already_set();
}

[[noreturn]] void raise_os_error(int error, const std::string &path) {
    errno = error;
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
    throw py::error_already_set();
}

/* The caller's mistakes, which a correct edgekit/runtime/ never makes. */
void check(ek_status status, const std::string &what) {
    if (status != EK_OK) raise("EdgekitError", what + ": " + ek_status_string(status));
}

std::unique_ptr<Storage> open_storage(const std::string &path) {
    try {
        return std::make_unique<Storage>(path);
    } catch (int error) {
        raise_os_error(error, path);
    }
}

/* An open file. Everything that points into it holds a shared_ptr to it. */
class Model {
public:
    Model(std::string name, std::unique_ptr<Storage> storage, bool check_weights)
        : name_(std::move(name)), storage_(std::move(storage)) {
        const uint32_t flags = check_weights ? 0 : EK_OPEN_SKIP_WEIGHTS_CHECKSUM;
        const ek_status status = ek_open(&model_, storage_->data(), storage_->size(), flags);
        if (status != EK_OK) refuse(status);
    }

    const std::string &name() const { return name_; }
    const ek_model *get() const { return &model_; }

    std::vector<ek_io_info> ports(bool output) const {
        std::vector<ek_io_info> infos(output ? ek_output_count(&model_) : ek_input_count(&model_));
        for (uint32_t i = 0; i < infos.size(); ++i) {
            const ek_status status =
                output ? ek_output_info(&model_, i, &infos[i]) : ek_input_info(&model_, i, &infos[i]);
            check(status, name_);
        }
        return infos;
    }

private:
    [[noreturn]] void refuse(ek_status status) const {
        std::string message = name_ + ": " + ek_status_string(status);
        if (status == EK_ERROR_FLOAT_STATE) raise("EdgekitError", message);
        if (status == EK_ERROR_FEATURE) {
            message += " (bits " + std::to_string(ek_missing_features(&model_)) + " of required_features)";
        } else if (ek_error_offset(&model_) != 0) {
            message += " (record at byte " + std::to_string(ek_error_offset(&model_)) + ")";
        }
        raise("FormatError", message);
    }

    std::string name_;
    std::unique_ptr<Storage> storage_;
    ek_model model_ = {};
};

/* What an operator reported when it was done. */
struct Event {
    uint32_t op;
    uint32_t tensor;
    uint8_t opcode;
    bool chosen;
    const char *kernel;
    int64_t nanoseconds;
    std::vector<int8_t> data;
};

using Clock = std::chrono::steady_clock;

/* Receives ek_on_op; runs without the GIL. */
class Observer {
public:
    std::vector<Event> events;
    bool copies = false;
    bool failed = false;

    static void on_op(void *context, const ek_op_event *event) {
        static_cast<Observer *>(context)->receive(*event);
    }

private:
    void receive(const ek_op_event &event) {
        if (!event.done) {
            start_ = Clock::now();
            return;
        }
        const auto elapsed = Clock::now() - start_;
        try {
            const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count();
            const bool chosen = event.chosen != 0;
            events.push_back({event.op, event.tensor, event.opcode, chosen, event.kernel, nanoseconds, {}});
            if (copies && event.data != nullptr) {
                const auto *bytes = static_cast<const int8_t *>(event.data);
                events.back().data.assign(bytes, bytes + event.bytes);
            }
        } catch (const std::bad_alloc &) { /* must not pass through C */
            failed = true;
        }
    }

    Clock::time_point start_;
};

struct DestroyThreads {
    void operator()(ek_threads *threads) const { ek_threads_destroy(threads); }
};
using Threads = std::unique_ptr<ek_threads, DestroyThreads>;

/* A NumPy array over aligned memory that it owns. */
py::array allocate(const py::dtype &dtype, const std::vector<py::ssize_t> &shape, std::size_t bytes) {
    Block block = aligned_block(bytes);
    void *memory = block.get();
    py::capsule owner(memory, [](void *address) { FreeBlock()(address); });
    block.release();
    return py::array(dtype, shape, memory, owner);
}

py::array allocate_port(const ek_io_info &info, ek_format format) {
    const int32_t *dims = format == EK_FORMAT_RAW ? info.raw_dims : info.dims;
    const std::vector<py::ssize_t> shape(dims, dims + info.rank);
    if (format == EK_FORMAT_FLOAT) return allocate(py::dtype::of<float>(), shape, info.elements * sizeof(float));
    const bool is_unsigned = format == EK_FORMAT_RAW && info.raw_dtype == 2;
    return allocate(is_unsigned ? py::dtype::of<uint8_t>() : py::dtype::of<int8_t>(), shape, info.elements);
}

/* Runs shorter than this keep the GIL: handing it over and getting it back costs some of that itself, and
 * a thread that waits for it would hardly be awake before the run is over. */
constexpr std::chrono::microseconds brief_run(10);

/* An instance with its memory, buffers and threads. */
class Runner {
public:
    Runner(std::shared_ptr<Model> model, ek_kernels kernels, uint32_t threads,
           const std::vector<int> &input_formats, bool observed)
        : model_(std::move(model)) {
        const std::size_t bytes = ek_memory_needed(model_->get(), kernels, threads);
        if (bytes == 0) raise("EdgekitError", model_->name() + ": needs more memory than this machine can address");
        memory_ = aligned_block(bytes);
        memory_bytes_ = bytes;

        ek_config config = {};
        config.kernels = kernels;
        config.threads = threads;
        if (threads > 1) {
            threads_.reset(ek_threads_create(threads));
            if (threads_ == nullptr) raise("EdgekitError", "cannot start " + std::to_string(threads) + " threads");
            config.parallel_for = ek_threads_parallel_for;
            config.parallel_context = threads_.get();
        }
        if (observed) {
            config.on_op = Observer::on_op;
            config.on_op_context = &observer_;
        }
        check(ek_create(&instance_, model_->get(), &config, memory_.get(), bytes), model_->name());
        bind_inputs(input_formats);
        bind_outputs();
    }

    /* Executes the model once; returns the outputs by name. */
    const py::object &run() {
        check(execute(), model_->name());
        return outputs_;
    }

    /* Makes an array that the caller owns the buffer of a port. It must have the port's shape and type for
     * `format`; edgekit/runtime/ says what is wrong with others. */
    void bind(bool output, uint32_t index, py::array array, int format) {
        const std::string what = model_->name() + (output ? ": output " : ": input ") + std::to_string(index);
        if ((array.flags() & py::array::c_style) == 0) raise("EdgekitError", what + ": the array is not contiguous");
        const auto bytes = static_cast<std::size_t>(array.nbytes());
        const auto layout = static_cast<ek_format>(format);
        void *writable = output ? array.mutable_data() : nullptr;
        ek_status status;
        {
            const py::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            status = output ? ek_bind_output(instance_, index, writable, bytes, layout)
                            : ek_bind_input(instance_, index, array.data(), bytes, layout);
        }
        check(status, what);
        hold(output, index, std::move(array));
    }

    py::list trace() {
        py::list rows;
        for (const Event &event : observe(true)) {
            const auto size = static_cast<py::ssize_t>(event.data.size());
            rows.append(py::make_tuple(event.tensor, event.opcode, py::array_t<int8_t>(size, event.data.data())));
        }
        return rows;
    }

    py::list profile() {
        py::list rows;
        for (const Event &event : observe(false)) {
            rows.append(py::make_tuple(event.op, event.opcode, event.kernel, event.chosen, event.nanoseconds));
        }
        return rows;
    }

    void reset() {
        const py::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_);
        ek_reset(instance_);
    }

    ek_instance *instance() const { return instance_; }
    const Model &model() const { return *model_; }
    const py::object &inputs() const { return inputs_; }
    const py::object &outputs() const { return outputs_; }
    std::size_t memory_bytes() const { return memory_bytes_; }

private:
    std::vector<Event> observe(bool copies) {
        ek_status status;
        std::vector<Event> events;
        bool failed;
        {
            const py::gil_scoped_release release;
            const std::lock_guard<std::mutex> lock(mutex_);
            observer_.events.clear();
            observer_.copies = copies;
            observer_.failed = false;
            status = ek_run(instance_);
            events.swap(observer_.events);
            failed = observer_.failed;
        }
        check(status, model_->name());
        if (failed) throw std::bad_alloc();
        return events;
    }

    /* One run at a time, and without the GIL unless the last run was brief. */
    ek_status execute() {
        if (brief_.load(std::memory_order_relaxed)) {
            const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
            if (lock.owns_lock()) return ek_run(instance_);
        }
        const py::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto start = Clock::now();
        const ek_status status = ek_run(instance_);
        brief_.store(Clock::now() - start < brief_run, std::memory_order_relaxed);
        return status;
    }

    void bind_inputs(const std::vector<int> &formats) {
        const auto infos = model_->ports(false);
        for (uint32_t i = 0; i < infos.size(); ++i) {
            const auto format = static_cast<ek_format>(formats.at(i));
            bind(false, i, allocate_port(infos[i], format), format);
        }
    }

    void bind_outputs() {
        const auto infos = model_->ports(true);
        for (uint32_t i = 0; i < infos.size(); ++i) {
            bind(true, i, allocate_port(infos[i], infos[i].format), infos[i].format);
        }
    }

    /* Keeps the array as long as the instance is bound to it, whatever Python does to its views. */
    void hold(bool output, uint32_t index, py::array array) {
        ek_io_info info;
        check(output ? ek_output_info(model_->get(), index, &info) : ek_input_info(model_->get(), index, &info),
              model_->name());
        (output ? output_arrays_ : input_arrays_)[info.name] = std::move(array);
    }

    static py::object read_only(const py::dict &views) {
        return py::module_::import("types").attr("MappingProxyType")(views);
    }

    std::shared_ptr<Model> model_;
    Threads threads_;
    Block memory_;
    std::size_t memory_bytes_ = 0;
    ek_instance *instance_ = nullptr;
    Observer observer_;
    std::mutex mutex_; /* an instance serves one run at a time */
    std::atomic<bool> brief_{false};
    py::dict input_arrays_, output_arrays_; /* port -> what the instance is bound to */
    py::object inputs_ = read_only(input_arrays_), outputs_ = read_only(output_arrays_);
};

struct DestroyPipeline {
    void operator()(ek_pipeline *pipeline) const { ek_pipeline_destroy(pipeline); }
};

/* Runners of one model that take turns. Nobody else may run or bind them; edgekit/runtime/ sees to it. */
class Pipeline {
public:
    Pipeline(std::vector<py::object> runners, const std::vector<uint32_t> &cuts) : runners_(std::move(runners)) {
        std::vector<ek_instance *> instances;
        for (const py::object &runner : runners_) instances.push_back(runner.cast<Runner &>().instance());
        if (instances.empty()) raise("EdgekitError", "a pipeline needs a runner");
        const Model &model = runners_[0].cast<Runner &>().model();
        ek_pipeline *made = nullptr;
        const auto count = static_cast<uint32_t>(instances.size());
        const auto stages = static_cast<uint32_t>(cuts.size());
        check(ek_pipeline_create(&made, model.get(), instances.data(), count, cuts.data(), stages),
              model.name() + ": pipeline");
        pipeline_.reset(made);
    }

    void push() { check(ek_pipeline_push(pipeline_.get()), "push"); }

    void pop() {
        ek_status status;
        {
            const py::gil_scoped_release release;
            status = ek_pipeline_pop(pipeline_.get());
        }
        check(status, "pop");
    }

private:
    std::vector<py::object> runners_; /* outlive the threads */
    std::unique_ptr<ek_pipeline, DestroyPipeline> pipeline_;
};

/* The Runner in an object of its Python class or of one derived from it; null before __init__. What
 * py::cast finds by two look-ups is at a known place in every object that derives from one C++ class. */
Runner *runner_in(PyObject *object) {
    auto *instance = reinterpret_cast<py::detail::instance *>(object);
    if (!instance->simple_layout) return py::cast<Runner *>(py::handle(object));
    return static_cast<Runner *>(instance->simple_value_holder[0]);
}

/* runner(): a slot of the type, as the way through a Python method costs more than a small model does. */
PyObject *call_runner(PyObject *self, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != nullptr && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "a runner takes no arguments: fill its inputs before the call");
        return nullptr;
    }
    try {
        Runner *runner = runner_in(self);
        if (runner != nullptr) return py::object(runner->run()).release().ptr();
        PyErr_SetString(PyExc_TypeError, "Runner.__init__() was not called");
    } catch (py::error_already_set &error) {
        error.restore();
    } catch (const std::exception &error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

void set_runner_slots(PyHeapTypeObject *type) { type->ht_type.tp_call = call_runner; }

std::vector<int> dims(const int32_t *values, int32_t rank) { return std::vector<int>(values, values + rank); }

py::dict port_dict(const ek_io_info &info) {
    py::dict port;
    port["name"] = info.name;
    port["shape"] = py::tuple(py::cast(dims(info.dims, info.rank)));
    port["raw_shape"] = py::tuple(py::cast(dims(info.raw_dims, info.rank)));
    port["raw_dtype"] = info.raw_dtype == 0 ? "" : info.raw_dtype == 1 ? "int8" : "uint8";
    port["format"] = static_cast<int>(info.format);
    port["scale"] = info.scale;
    port["zero_point"] = info.zero_point;
    return port;
}

py::list port_list(const Model &model, bool output) {
    py::list ports;
    for (const ek_io_info &info : model.ports(output)) ports.append(port_dict(info));
    return ports;
}

py::dict kernel_sets(ek_kernels mask) {
    py::dict sets;
    for (ek_kernels bit = 1; bit <= last_kernel_bit; bit <<= 1) {
        const char *name = ek_kernels_name(bit);
        if ((mask & bit) && name != nullptr) sets[name] = bit;
    }
    return sets;
}

using Floats = py::array_t<float, py::array::c_style>;
using Counts = py::array_t<std::int64_t, py::array::c_style>;

py::tuple look(const Floats &x, std::size_t distance) {
    const auto count = static_cast<std::size_t>(x.size());
    if (distance == 0) raise("EdgekitError", "look: distance is 0");
    std::vector<float> picked((count + distance - 1) / distance);
    float *end = picked.data();
    Extremes extremes;
    {
        const py::gil_scoped_release release;
        extremes = look_at(x.data(), count, distance, end);
    }
    return py::make_tuple(extremes.lo, extremes.hi, Floats(end - picked.data(), picked.data()));
}

void count(const Floats &x, float start, float per_width, Counts counts) {
    std::int64_t *const bins = counts.mutable_data();
    if (counts.size() == 0) raise("EdgekitError", "count: no bins");
    const py::gil_scoped_release release;
    count_by_bin(x.data(), static_cast<std::size_t>(x.size()), start, per_width, bins,
                 static_cast<std::size_t>(counts.size()));
}

} // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "The C runtime; use edgekit.load instead.";
    module.attr("FORMAT_FLOAT") = static_cast<int>(EK_FORMAT_FLOAT);
    module.attr("FORMAT_RAW") = static_cast<int>(EK_FORMAT_RAW);
    module.attr("FORMAT_INT8") = static_cast<int>(EK_FORMAT_INT8);
    module.attr("MAX_THREADS") = EK_MAX_THREADS;
    module.attr("REPACK") = EK_REPACK;
    module.attr("VERSION") = py::make_tuple(EK_VERSION_MAJOR, EK_VERSION_MINOR, EK_VERSION_PATCH);

    module.def("kernel_sets_built", [] { return kernel_sets(ek_kernels_built()); },
               "Name -> bit of the kernel sets in this build.");
    module.def("kernel_sets_here", [] { return kernel_sets(ek_kernels_built() & ek_cpu_kernels()); },
               "Name -> bit of the kernel sets that this processor can run.");
    module.def("look", &look, py::arg("x").noconvert(), py::arg("distance"),
               "Smallest and largest value of float32 x, both NaN where one is, and of every `distance`th those other than zero.");
    module.def("count", &count, py::arg("x").noconvert(), py::arg("start"), py::arg("per_width"),
               py::arg("counts").noconvert(), "Counts finite float32 x by bin, in place, in int64 counts.");

    py::class_<Model, std::shared_ptr<Model>>(module, "Model")
        .def_static("open", [](const std::string &path, bool check_weights) {
            return std::make_shared<Model>(path, open_storage(path), check_weights);
        }, py::arg("path"), py::arg("check_weights") = true)
        .def_static("from_bytes", [](const py::bytes &bytes, const std::string &name, bool check_weights) {
            const auto view = static_cast<std::string_view>(bytes);
            return std::make_shared<Model>(name, std::make_unique<Storage>(view.data(), view.size()), check_weights);
        }, py::arg("data"), py::arg("name"), py::arg("check_weights") = true)
        .def_property_readonly("name", &Model::name)
        .def("inputs", [](const Model &model) { return port_list(model, false); })
        .def("outputs", [](const Model &model) { return port_list(model, true); })
        .def("memory_needed", [](const Model &model, ek_kernels kernels, uint32_t threads) {
            return ek_memory_needed(model.get(), kernels, threads);
        }, py::arg("kernels"), py::arg("threads") = 1)
        .def("scratch_needed", [](const Model &model, ek_kernels kernels) {
            return ek_scratch_needed(model.get(), kernels);
        }, py::arg("kernels"))
        .def_property_readonly("state_bytes", [](const Model &model) { return ek_state_bytes(model.get()); });

    py::class_<Runner>(module, "Runner", py::custom_type_setup(set_runner_slots))
        .def(py::init<std::shared_ptr<Model>, ek_kernels, uint32_t, const std::vector<int> &, bool>(),
             py::arg("model"), py::arg("kernels"), py::arg("threads"), py::arg("input_formats"),
             py::arg("observed") = false)
        .def("_bind", &Runner::bind, py::arg("output"), py::arg("index"), py::arg("array"), py::arg("format"))
        .def("_trace", &Runner::trace)
        .def("_profile", &Runner::profile)
        .def("reset", &Runner::reset, "Puts persistent state back to its initial values.")
        .def_property_readonly("inputs", &Runner::inputs, "Input name -> the array that runs read.")
        .def_property_readonly("outputs", &Runner::outputs, "Output name -> the array that runs write.")
        .def_property_readonly("memory_bytes", &Runner::memory_bytes,
                               "What the runtime asked for: prepared operators, arena, state, scratch and repacked weights.");

    py::class_<Pipeline>(module, "Pipeline")
        .def(py::init<std::vector<py::object>, const std::vector<uint32_t> &>(), py::arg("runners"), py::arg("cuts"))
        .def("push", &Pipeline::push)
        .def("pop", &Pipeline::pop);
}
