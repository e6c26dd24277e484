def save_to(folder, worker):
    return {"project": "elsewhere", "name": f"{worker}"}
